"""The transaction that writes a group of batches: idempotency keys, then events, then the journal of counts.

Keys are inserted first, in sorted order, so that collectors rarely deadlock. A batch whose key or request hash exists
is left out; `duplicates` decides its response.

Behind a pooler, the transaction after a failover may run on the promoted server although the connection was not lost.
There, the statement that inserts the keys inserts none before the epoch of its server has begun.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from asyncpg import Connection

from brain_collector.counts.journal import Deltas
from brain_collector.ingest.rows import Rows
from brain_collector.storage.durability import DURABLE
from brain_collector.storage.epochs import CURRENT
from brain_collector.storage.pooler import leads_to_pooler

SMALL_GROUP_ROWS: Final = 200
SMALL_GROUP_CHARS: Final = 2**20
"""Up to here, one statement is faster than COPY, which needs no memory for all rows at once."""

ROW_ERRORS: Final = (asyncpg.DataError, asyncpg.StatementTooComplexError, asyncpg.ProgramLimitExceededError)
"""The errors with which Postgres rejects one of the rows."""

_KEY_COLUMNS: Final = "(key, digest, answer, first_id, n, min_ts, max_ts, request_hash, caller)"
_KEY_ARRAYS: Final = (
    "$1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::int[], $6::timestamptz[], $7::timestamptz[], "
    "$8::uuid[], $9::text[]"
)


class Statements(NamedTuple):
    """The statement that inserts idempotency keys, alone and with the events and counts of a small group."""

    keys: str
    small_group: str


def _statements(condition: str) -> Statements:
    keys = f"""
        INSERT INTO batches {_KEY_COLUMNS}
        SELECT * FROM unnest({_KEY_ARRAYS}) WHERE {condition} ORDER BY 1
        ON CONFLICT DO NOTHING RETURNING key, received_at
    """
    small_group = f"""
        WITH new_keys AS ({keys}), events AS (
            INSERT INTO system_events (id, event_type, severity, message, details, source, "timestamp")
            SELECT id, event_type, severity, message, details, source, ts
            FROM unnest($10::uuid[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::jsonb[], $16::text[],
                $17::timestamptz[]) AS row (key, id, event_type, severity, message, details, source, ts)
            JOIN new_keys USING (key)
        ), journal AS (
            INSERT INTO event_deltas (bucket, event_type, severity, n)
            SELECT bucket, event_type, severity, n
            FROM unnest($18::uuid[], $19::timestamptz[], $20::text[], $21::text[], $22::bigint[])
                AS delta (key, bucket, event_type, severity, n)
            JOIN new_keys USING (key)
        )
        SELECT key, received_at FROM new_keys
    """
    return Statements(keys, small_group)


_DIRECT: Final = _statements(DURABLE)
_POOLED: Final = _statements(f"{DURABLE} AND {CURRENT} IS NOT NULL")

_SELECT_KEYS: Final = """
    SELECT key, request_hash, digest, caller, answer, first_id, received_at, min_ts FROM batches
    WHERE key = ANY($1::uuid[])
    UNION ALL
    SELECT key, request_hash, digest, caller, answer, first_id, received_at, min_ts FROM batches
    WHERE request_hash = ANY($2::uuid[]) AND request_hash IS NOT NULL
"""

_FLUSH: Final = f"SELECT pg_logical_emit_message(true, 'brain-events', '') WHERE {DURABLE}"
"""A commit that waits until everything committed before it is safe, also on synchronous standbys.

The row of a duplicate may be visible although its own commit never waited: its session was ended, for example."""

_EVENT_COLUMNS: Final = ("id", "event_type", "severity", "message", "details", "source", "timestamp")
_DELTA_COLUMNS: Final = ("bucket", "event_type", "severity", "n")


class Batch(NamedTuple):
    """The events that are written under one idempotency key, with a row in `batches`.

    Key and ids are drawn once and kept for retries, so that a transaction whose COMMIT was not acknowledged is
    recognised, and not stored twice. See `duplicates` for `digest`, `request_hash` and `caller`.
    """

    key: UUID
    digest: int
    request_hash: UUID | None
    caller: str | None
    answer: bytes | None
    first_id: int
    rows: Rows
    deltas: Deltas

    @property
    def key_row(self) -> tuple[Any, ...]:
        """The row in `batches`."""
        answer = None if self.answer is None else self.answer.decode()
        times = self.rows.timestamps
        row = (self.key, self.digest, answer, self.first_id, self.rows.n, min(times), max(times))
        return (*row, self.request_hash, self.caller)

    def event_rows(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows in `system_events`, ids in order."""
        return zip(range(self.first_id, self.first_id + self.rows.n), *self.rows, strict=True)


class OtherServer(asyncpg.InterfaceError):
    """Nothing was written: the pooler leads to another server than before. To be tried again on a new connection."""

    def __init__(self) -> None:
        super().__init__("the connection pooler leads to another server than before")


class Outcome(NamedTuple):
    """The stored row of a batch: its own, or the one that prevented it from being stored."""

    digest: int
    request_hash: UUID | None
    caller: str | None
    answer: bytes | None
    first_id: int
    created_at: datetime
    earliest: datetime


async def commit(connection: Connection, batches: list[Batch]) -> dict[UUID, Outcome]:
    """Write the new batches in one transaction; return the stored row of each, by the key of the batch.

    Raises:
        OtherServer: nothing was written; the epoch of the server has not begun.
    """
    is_pooled = leads_to_pooler(connection)
    write = _commit_small if _is_small(batches) else _commit_large
    received = await write(connection, batches, _POOLED if is_pooled else _DIRECT)
    outcomes = {batch.key: _outcome(batch, received[batch.key]) for batch in batches if batch.key in received}
    known = [batch for batch in batches if batch.key not in received]
    if not known:
        return outcomes
    existing = await _existing(connection, known)
    if is_pooled and not received and len(existing) < len(known):
        raise OtherServer
    await connection.execute(_FLUSH)
    return outcomes | existing


def _is_small(batches: list[Batch]) -> bool:
    if sum(batch.rows.n for batch in batches) > SMALL_GROUP_ROWS:
        return False
    columns = [column for batch in batches for column in (batch.rows.messages, batch.rows.details)]
    return sum(map(len, filter(None, chain.from_iterable(columns)))) <= SMALL_GROUP_CHARS


def _outcome(batch: Batch, created_at: datetime) -> Outcome:
    earliest = min(batch.rows.timestamps)
    return Outcome(batch.digest, batch.request_hash, batch.caller, batch.answer, batch.first_id, created_at, earliest)


async def _existing(connection: Connection, batches: list[Batch]) -> dict[UUID, Outcome]:
    """Return the row with the same request hash, or else with the same key, of batches that were not stored."""
    keys, hashes = [batch.key for batch in batches], [batch.request_hash for batch in batches if batch.request_hash]
    by_key, by_hash = {}, {}
    for row in await connection.fetch(_SELECT_KEYS, keys, hashes):
        answer = None if row["answer"] is None else row["answer"].encode()
        identity = (row["digest"], row["request_hash"], row["caller"])
        outcome = Outcome(*identity, answer, row["first_id"], row["received_at"], row["min_ts"])
        by_key[row["key"]] = outcome
        by_hash[row["request_hash"]] = outcome
    by_hash.pop(None, None)
    found = {batch.key: by_hash.get(batch.request_hash) or by_key.get(batch.key) for batch in batches}
    return {key: outcome for key, outcome in found.items() if outcome is not None}


async def _commit_large(connection: Connection, batches: list[Batch], statements: Statements) -> dict[UUID, datetime]:
    async with connection.transaction():
        received = _times(await connection.fetch(statements.keys, *_columns(batch.key_row for batch in batches)))
        new = [batch for batch in batches if batch.key in received]
        if new:
            events = chain.from_iterable(batch.event_rows() for batch in new)
            await connection.copy_records_to_table("system_events", records=events, columns=_EVENT_COLUMNS)
            deltas = [(*bucket, n) for bucket, n in _sum(batch.deltas for batch in new).items()]
            await connection.copy_records_to_table("event_deltas", records=deltas, columns=_DELTA_COLUMNS)
    return received


async def _commit_small(connection: Connection, batches: list[Batch], statements: Statements) -> dict[UUID, datetime]:
    keys = _columns(batch.key_row for batch in batches)
    events = _columns((batch.key, *row) for batch in batches for row in batch.event_rows())
    deltas = _columns((batch.key, *bucket, n) for batch in batches for bucket, n in batch.deltas.items())
    return _times(await connection.fetch(statements.small_group, *keys, *events, *deltas))


async def find_rejected(connection: Connection, rows: Rows) -> dict[int, str]:
    """Return the reason for every row that Postgres rejects, by index. Nothing is stored.

    Halves are tried under savepoints, so that n rows with one rejected row take about 2 log2(n) attempts.
    """
    rejected: dict[int, str] = {}
    probe = connection.transaction()
    await probe.start()
    try:
        open_ranges = [(0, rows.n)]
        while open_ranges:
            start, end = open_ranges.pop()
            try:
                async with connection.transaction():
                    part = zip(range(start, end), *(column[start:end] for column in rows), strict=True)
                    await connection.copy_records_to_table("system_events", records=part, columns=_EVENT_COLUMNS)
            except ROW_ERRORS as error:
                if end - start == 1:
                    rejected[start] = str(error)
                else:
                    middle = (start + end) // 2
                    open_ranges += [(start, middle), (middle, end)]
    finally:
        await probe.rollback()
    return rejected


def _sum(all_deltas: Iterable[Deltas]) -> Deltas:
    """Return the sum of the deltas of several batches."""
    total: Counter[tuple[datetime, str, str]] = Counter()
    for deltas in all_deltas:
        total.update(deltas)
    return total


def _times(rows: list[asyncpg.Record]) -> dict[UUID, datetime]:
    return {row["key"]: row["received_at"] for row in rows}


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]

"""The transaction that writes a group of batches: idempotency keys, then events, then the journal of counts.

Keys are inserted first, in sorted order, so that collectors never deadlock. A batch whose key exists is left out; its
response is the one stored with the key.
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

SMALL_GROUP_ROWS: Final = 200  # up to here, one statement is faster than COPY

ROW_ERRORS: Final = (asyncpg.DataError, asyncpg.StatementTooComplexError, asyncpg.ProgramLimitExceededError)
"""The errors with which Postgres rejects one of the rows."""

_KEY_COLUMNS: Final = "(key, digest, answer, first_id, n, min_ts, max_ts)"
_KEY_ARRAYS: Final = (
    "$1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::int[], $6::timestamptz[], $7::timestamptz[]"
)

_INSERT_KEYS: Final = f"""
    INSERT INTO batches {_KEY_COLUMNS} SELECT * FROM unnest({_KEY_ARRAYS}) ORDER BY 1
    ON CONFLICT (key) DO NOTHING RETURNING key, received_at
"""

_INSERT_SMALL: Final = f"""
    WITH new_keys AS ({_INSERT_KEYS}), events AS (
        INSERT INTO system_events (id, event_type, severity, message, details, source, "timestamp")
        SELECT id, event_type, severity, message, details, source, ts
        FROM unnest($8::uuid[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::jsonb[], $14::text[],
            $15::timestamptz[]) AS row (key, id, event_type, severity, message, details, source, ts)
        JOIN new_keys USING (key)
    ), journal AS (
        INSERT INTO event_deltas (bucket, event_type, severity, n)
        SELECT bucket, event_type, severity, n
        FROM unnest($16::uuid[], $17::timestamptz[], $18::text[], $19::text[], $20::bigint[])
            AS delta (key, bucket, event_type, severity, n)
        JOIN new_keys USING (key)
    )
    SELECT key, received_at FROM new_keys
"""

_SELECT_KEYS: Final = "SELECT key, digest, answer, first_id, n, received_at FROM batches WHERE key = ANY($1::uuid[])"

_NEXT_ID_BLOCK: Final = "SELECT nextval('system_events_id_seq')"

_EVENT_COLUMNS: Final = ("id", "event_type", "severity", "message", "details", "source", "timestamp")
_DELTA_COLUMNS: Final = ("bucket", "event_type", "severity", "n")


class Batch(NamedTuple):
    """The events that are written under one idempotency key, with a row in `batches`.

    Key and ids are drawn once and kept for retries, so that a transaction whose COMMIT was not acknowledged is
    recognised, and not stored twice.
    """

    key: UUID
    digest: int
    answer: bytes | None
    first_id: int
    rows: Rows
    deltas: Deltas

    @property
    def key_row(self) -> tuple[Any, ...]:
        """The row in `batches`."""
        answer = None if self.answer is None else self.answer.decode()
        timestamps = self.rows.timestamps
        return (self.key, self.digest, answer, self.first_id, self.rows.n, min(timestamps), max(timestamps))

    def event_rows(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows in `system_events`, ids in order."""
        return zip(range(self.first_id, self.first_id + self.rows.n), *self.rows, strict=True)


class Outcome(NamedTuple):
    """The stored batch with an idempotency key: this one, or an earlier one (then `first_id` differs)."""

    digest: int
    answer: bytes | None
    first_id: int
    created_at: datetime


async def commit(connection: Connection, batches: list[Batch]) -> dict[UUID, Outcome]:
    """Write the batches with new keys in one transaction; return the stored batch of every key."""
    is_small = sum(batch.rows.n for batch in batches) <= SMALL_GROUP_ROWS
    received = await (_commit_small(connection, batches) if is_small else _commit_large(connection, batches))
    outcomes = {
        batch.key: Outcome(batch.digest, batch.answer, batch.first_id, received[batch.key])
        for batch in batches
        if batch.key in received
    }
    known = [batch.key for batch in batches if batch.key not in received]
    if known:
        for row in await connection.fetch(_SELECT_KEYS, known):
            answer = None if row["answer"] is None else row["answer"].encode()
            outcomes[row["key"]] = Outcome(row["digest"], answer, row["first_id"], row["received_at"])
    return outcomes


async def _commit_large(connection: Connection, batches: list[Batch]) -> dict[UUID, datetime]:
    async with connection.transaction():
        received = _times(await connection.fetch(_INSERT_KEYS, *_columns(batch.key_row for batch in batches)))
        new = [batch for batch in batches if batch.key in received]
        if new:
            events = chain.from_iterable(batch.event_rows() for batch in new)
            await connection.copy_records_to_table("system_events", records=events, columns=_EVENT_COLUMNS)
            deltas = [(*bucket, n) for bucket, n in _sum(batch.deltas for batch in new).items()]
            await connection.copy_records_to_table("event_deltas", records=deltas, columns=_DELTA_COLUMNS)
    return received


async def _commit_small(connection: Connection, batches: list[Batch]) -> dict[UUID, datetime]:
    keys = _columns(batch.key_row for batch in batches)
    events = _columns((batch.key, *row) for batch in batches for row in batch.event_rows())
    deltas = _columns((batch.key, *bucket, n) for batch in batches for bucket, n in batch.deltas.items())
    return _times(await connection.fetch(_INSERT_SMALL, *keys, *events, *deltas))


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


async def next_id_block(connection: Connection) -> int:
    """Draw a block of `settings.ID_BLOCK` ids; return the first."""
    return int(await connection.fetchval(_NEXT_ID_BLOCK))


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

"""The search index: blocks of some hundred adjacent events, each with the hashes of the words in them.

Ingest does not write it. New events are followed through `batches`, in commit order (`tail/commit_order.py`); events
that are older than the index are added from the newest one down. One collector at a time builds it; blocks and
progress are committed together.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from asyncpg import Connection

from brain_collector.storage.id_ranges import IdRange, cut, joined

BLOCK_IDS: Final = 256
STEP_IDS: Final = 2_048
"""Approximate number of events of one step, and of events that may wait unindexed: searches scan these."""
SMALL_IDS: Final = 16
EVERY_WORD: Final = -1
"""In the words of a block: it may hold any word, so every search looks at its events. No word has this hash."""
GAP_IDS: Final = 16
SPAN: Final = timedelta(hours=1)

LOCK: Final = "hashtext('brain-events search index')"
"""The key of the builder's advisory lock. Locking the job's row would assign a transaction id, and no stream gets past
that id before the transaction ends."""
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({LOCK})"

_NOTE: Final = "UPDATE jobs SET done_at = clock_timestamp() WHERE name = 'index'"

_ARRIVED: Final = """
    WITH progress AS (
        SELECT * FROM search_progress
    ), waiting AS (
        SELECT batches.xid::text::bigint AS xid, first_id + n - 1 AS last_id, min_ts, max_ts, received_at,
            CASE WHEN batches.xid::text::bigint = progress.xid THEN greatest(first_id, progress.id + 1) ELSE first_id
            END AS first_id
        FROM batches, progress
        WHERE batches.xid >= progress.xid::text::xid8 AND batches.xid < pg_snapshot_xmin(pg_current_snapshot())
            AND (batches.xid::text::bigint, first_id + n - 1) > (progress.xid, progress.id)
        ORDER BY batches.xid, batches.first_id LIMIT $1
    ), summed AS (
        SELECT *, sum(last_id - first_id + 1) OVER (ORDER BY xid, first_id) AS upto FROM waiting
    )
    SELECT xid, first_id, least(last_id, last_id - (upto - $1))::bigint AS last_id, min_ts, max_ts FROM summed
    WHERE upto - (last_id - first_id + 1) < $1 AND (
        (SELECT max(upto) FROM summed) >= $1
        OR (SELECT min(received_at) FROM summed) < now() - interval '1 hour'
    )
    ORDER BY xid, first_id
"""
"""The next $1 events as batches in order, the last one cut; no rows while there are fewer events.

After an hour fewer events are taken too: rows of `batches` are deleted some day.
"""

# The hashes equal those of `word_hashes`, which takes 10 us more per event.
_ADD: Final = """
    INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
    SELECT box.first_id, box.last_id, box.min_ts, box.max_ts, ARRAY(
        SELECT DISTINCT hashtext(word) & 16777215 FROM system_events AS event,
            unnest(tsvector_to_array(event_words(event_type, message, source, details))) AS word
        WHERE event.id BETWEEN box.first_id AND box.last_id
            AND event."timestamp" BETWEEN box.min_ts AND box.max_ts
    )
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
        AS box (first_id, last_id, min_ts, max_ts)
    ORDER BY box.max_ts
"""
"""ORDER BY computes all rows before the first insert, and only the insert assigns the transaction id."""

_ADD_UNREAD: Final = """
    INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
    SELECT first_id, last_id, min_ts, max_ts, '{-1}'
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[])
        AS box (first_id, last_id, min_ts, max_ts)
"""
"""Like `_ADD`, without reading the events."""

_ARRIVED_UNTIL: Final = "UPDATE search_progress SET xid = $1, id = $2"

_ADD_OLDER: Final = """
    WITH part AS MATERIALIZED (
        SELECT event.*, row_number() OVER (ORDER BY "timestamp" DESC, id DESC) - 1 AS place
        FROM (
            SELECT * FROM system_events
            WHERE "timestamp" <= $3 AND ("timestamp", id) < ($3, $4)
            ORDER BY "timestamp" DESC, id DESC LIMIT $1
        ) AS event
    ), made AS (
        INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
        SELECT min(id), max(id), min("timestamp"), max("timestamp"),
            coalesce(array_agg(DISTINCT hashtext(word) & 16777215) FILTER (WHERE word IS NOT NULL), '{}')
        FROM part
            LEFT JOIN unnest(tsvector_to_array(event_words(event_type, message, source, details))) AS word ON true
        GROUP BY place / $2
        ORDER BY 1
        RETURNING 1
    ), last AS (
        SELECT "timestamp", id FROM part ORDER BY place DESC LIMIT 1
    )
    UPDATE search_progress
    SET older_ts = (SELECT "timestamp" FROM last), older_id = (SELECT id FROM last)
    WHERE (SELECT count(*) FROM made) IS NOT NULL
"""
"""The blocks are computed before anything is written, for the same reason."""

_ADD_OLDER_UNREAD: Final = """
    WITH part AS MATERIALIZED (
        SELECT id, "timestamp" FROM system_events
        WHERE "timestamp" <= $2 AND ("timestamp", id) < ($2, $3)
        ORDER BY "timestamp" DESC, id DESC LIMIT $1
    ), made AS (
        INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
        SELECT id, id, "timestamp", "timestamp", '{-1}' FROM part
        RETURNING 1
    ), last AS (
        SELECT "timestamp", id FROM part ORDER BY "timestamp", id LIMIT 1
    )
    UPDATE search_progress
    SET older_ts = (SELECT "timestamp" FROM last), older_id = (SELECT id FROM last)
    WHERE (SELECT count(*) FROM made) IS NOT NULL
"""
"""Like `_ADD_OLDER`, without reading the texts of the events."""

_OLDER: Final = "SELECT older_ts, older_id FROM search_progress WHERE older_ts IS NOT NULL"

_LAG: Final = """
    SELECT extract(epoch FROM clock_timestamp() - done_at)::float8 AS seconds,
        (SELECT coalesce(sum(n), 0)::bigint FROM (
            SELECT n FROM batches, search_progress AS progress
            WHERE batches.xid >= progress.xid::text::xid8
                AND (batches.xid::text::bigint, first_id + n - 1) > (progress.xid, progress.id)
            LIMIT 100000
        ) AS part) AS waiting,
        (SELECT older_ts FROM search_progress) AS older,
        (SELECT coalesce(sum(last_id - first_id + 1), 0)::bigint FROM (
            SELECT first_id, last_id FROM search_blocks WHERE words @> '{-1}' LIMIT 1000
        ) AS block) AS unindexable
    FROM jobs WHERE name = 'index'
"""

ADD_CHANGED: Final = """
    INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
    SELECT id, id, "timestamp", "timestamp", word_hashes(event_words(event_type, message, source, details))
    FROM system_events WHERE id = :id AND "timestamp" = :timestamp
"""
"""Adds the new words of a changed event, in the transaction that changes it."""


class Lag(NamedTuple):
    """The state of the index.

    The seconds since any collector last worked on it; the number of events that wait, in up to 100,000 batches; the
    time before which older events are not indexed yet; and the number of events that could not be indexed, in up to
    1,000 blocks.
    """

    seconds: float
    waiting: int
    older: datetime | None
    unindexable: int


async def lag(connection: Connection) -> Lag:
    """Return the state of the index."""
    row = await connection.fetchrow(_LAG)
    assert row is not None
    return Lag(*row)


async def step(connection: Connection, ids: int) -> bool:
    """Take a step of both kinds; return whether there may be more to do."""
    is_more_arrived = await step_arrived(connection, ids)
    return await step_older(connection, ids) or is_more_arrived


async def step_arrived(connection: Connection, ids: int, *, read: bool = True) -> bool:
    """Index the next `ids` new events, unless another collector is indexing; return whether there were any.

    Without `read`, events that cannot be indexed get a block that matches every word; searches look at each of them.
    """
    async with connection.transaction():
        if not await connection.fetchval(_TRY_LOCK):
            return False
        arrived = await connection.fetch(_ARRIVED, ids)
        if arrived:
            batches = (IdRange(row["first_id"], row["last_id"], row["min_ts"], row["max_ts"]) for row in arrived)
            parts = (part for batch in batches for part in cut(batch, BLOCK_IDS))
            blocks = list(joined(parts, max_ids=BLOCK_IDS, max_gap=GAP_IDS, max_span=SPAN))
            await connection.execute(_ADD if read else _ADD_UNREAD, *map(list, zip(*blocks, strict=True)))
            await connection.execute(_ARRIVED_UNTIL, arrived[-1]["xid"], arrived[-1]["last_id"])
        await connection.execute(_NOTE)
        return bool(arrived)


async def step_older(connection: Connection, ids: int, *, read: bool = True) -> bool:
    """Do the same for `ids` events that are older than the index."""
    async with connection.transaction():
        if not await connection.fetchval(_TRY_LOCK):
            return False
        older = await connection.fetchrow(_OLDER)
        if older is None:
            return False
        if read:
            await connection.execute(_ADD_OLDER, ids, BLOCK_IDS, *older)
        else:
            await connection.execute(_ADD_OLDER_UNREAD, ids, *older)
        return True

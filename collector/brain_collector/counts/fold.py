"""The fold: moves the journal into the counts of hours and days, a portion at a time, and bounds the types of a day.

A day counts at most `max_types` types by name. The first portion with more makes it a *full day*: it has a row of the
grain `full`, and from then on no further type gets a name on it; events of types without a name are counted together,
as `journal.REST`. Whether a type has a name is decided here only, by one collector at a time, and never changes while
any of its events is counted. So a count is always subtracted from the row to which it was added.
"""

from collections.abc import Collection
from typing import Final

from asyncpg import Connection, Record

PORTION_ROWS: Final = 5_000
"""Number of rows of the journal that are folded in one transaction."""

_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(hashtext('brain-events fold'))"
"""Locking the job's row would assign a transaction id, and no stream gets past that id before the transaction ends."""

_FOLD: Final = """
    WITH portion AS MATERIALIZED (
        SELECT ctid AS place, bucket, date_trunc('day', bucket, 'UTC') AS day, event_type, severity, n
        FROM event_deltas LIMIT $1
    ), types AS MATERIALIZED (
        SELECT day, event_type, sum(n) AS n FROM portion GROUP BY 1, 2
    ), new_types AS MATERIALIZED (
        SELECT day, event_type, row_number() OVER (PARTITION BY day ORDER BY n DESC, event_type) AS rank
        FROM types LEFT JOIN LATERAL (
            SELECT true AS has_name FROM event_counts AS c
            WHERE c.grain = 'day' AND c.bucket = types.day AND c.event_type = types.event_type LIMIT 1
        ) AS name ON true
        WHERE has_name IS NULL AND event_type <> ALL ($3::text[])
    ), room AS MATERIALIZED (
        SELECT day, CASE
            WHEN EXISTS (SELECT FROM event_counts AS c WHERE c.grain = 'full' AND c.bucket = day) THEN 0
            ELSE $2 - (
                SELECT count(DISTINCT event_type) FROM event_counts AS c WHERE c.grain = 'day' AND c.bucket = day
            ) END AS n
        FROM (SELECT DISTINCT day FROM new_types) AS days
    ), nameless AS MATERIALIZED (
        SELECT day, event_type FROM new_types JOIN room USING (day) WHERE rank > room.n
    ), hours AS MATERIALIZED (
        SELECT portion.bucket, day, CASE WHEN nameless.event_type IS NULL THEN portion.event_type ELSE '' END
            AS event_type, portion.severity, sum(portion.n) AS n
        FROM portion LEFT JOIN nameless USING (day, event_type)
        GROUP BY 1, 2, 3, 4 HAVING sum(portion.n) <> 0
    ), days AS MATERIALIZED (
        SELECT day, event_type, severity, sum(n) AS n FROM hours GROUP BY 1, 2, 3
    ), gone AS (
        DELETE FROM event_deltas
        WHERE (SELECT count(*) FROM days) IS NOT NULL AND ctid = ANY (ARRAY(SELECT place FROM portion))
        RETURNING 1
    ), full_days AS (
        INSERT INTO event_counts (grain, bucket, event_type, severity, n)
        SELECT DISTINCT 'full', day, '', '', 0 FROM nameless
        ON CONFLICT DO NOTHING
    ), added_hours AS (
        INSERT INTO event_counts AS c (grain, bucket, event_type, severity, n)
        SELECT 'hour', bucket, event_type, severity, n FROM hours
        ON CONFLICT (grain, bucket, event_type, severity) DO UPDATE SET n = c.n + excluded.n
        RETURNING bucket, event_type, severity, n
    ), added_days AS (
        INSERT INTO event_counts AS c (grain, bucket, event_type, severity, n)
        SELECT 'day', day, event_type, severity, n FROM days
        ON CONFLICT (grain, bucket, event_type, severity) DO UPDATE SET n = c.n + excluded.n
    ), zero AS (
        SELECT bucket, event_type, severity FROM added_hours WHERE n = 0
    )
    SELECT (SELECT count(*) FROM portion) AS taken, (SELECT count(*) FROM gone) AS gone,
        ARRAY(SELECT bucket FROM zero) AS buckets, ARRAY(SELECT event_type FROM zero) AS types,
        ARRAY(SELECT severity FROM zero) AS severities
"""
"""All rows are computed before the first write, for the same reason. A day's most frequent new types get a name.

A day has a row of each type and severity that its hours have, even if their sum is 0: it is the type's name.
"""

_REMOVE_ZEROS: Final = """
    WITH zero AS (
        SELECT bucket, date_trunc('day', bucket, 'UTC') AS day, event_type, severity
        FROM unnest($1::timestamptz[], $2::text[], $3::text[]) AS z (bucket, event_type, severity)
    ), hours AS (
        DELETE FROM event_counts AS c USING zero
        WHERE c.grain = 'hour' AND c.bucket = zero.bucket AND c.event_type = zero.event_type
            AND c.severity = zero.severity AND c.n = 0
    )
    DELETE FROM event_counts AS c USING (SELECT DISTINCT day, event_type, severity FROM zero) AS zero
    WHERE c.grain = 'day' AND c.bucket = zero.day AND c.event_type = zero.event_type AND c.severity = zero.severity
        AND c.n = 0 AND NOT EXISTS (
            SELECT FROM generate_series(zero.day, zero.day + interval '23 hours', interval '1 hour') AS hour
            JOIN event_counts AS h ON h.grain = 'hour' AND h.bucket = hour AND h.event_type = zero.event_type
                AND h.severity = zero.severity AND h.n <> 0
        )
"""

_NOTE: Final = "UPDATE jobs SET done_at = clock_timestamp() WHERE name = 'fold'"


class FoldedByOthers(Exception):  # noqa: N818 - nothing is wrong
    """Rows of the portion were folded by a collector of an earlier release, which takes another lock."""


async def fold(
    connection: Connection, *, max_types: int, always_named: Collection[str] = (), rows: int = PORTION_ROWS
) -> int | None:
    """Fold a portion of the journal; return its number of rows, or None if another collector is folding.

    Types in `always_named` have a name on every day.
    """
    try:
        async with connection.transaction():
            if not await connection.fetchval(_TRY_LOCK):
                return None
            portion = await connection.fetchrow(_FOLD, rows, max_types, list(always_named))
            assert portion is not None
            _check(portion)
            if portion["buckets"]:
                await connection.execute(_REMOVE_ZEROS, portion["buckets"], portion["types"], portion["severities"])
            await connection.execute(_NOTE)
            return int(portion["taken"])
    except FoldedByOthers:
        return None


def _check(portion: Record) -> None:
    if portion["gone"] != portion["taken"]:
        raise FoldedByOthers

"""Exact counts: every write journals its deltas, one collector folds the journal, statistics add both.

The journal (`event_deltas`) is written in the transaction that writes the events. Its rows are never updated, so
writers share no row. Folding moves them into hour and day rows (`event_counts`) in one statement. A reader's single
statement therefore sees each delta on one side or the other, never on both or neither.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import repeat
from typing import Final

from asyncpg import Connection

Deltas = dict[tuple[datetime, str, str], int]
"""The change of counts by a write: (hour, event_type, severity) to a number of events, negative for deleted ones."""

_LOCK_JOB: Final = "SELECT name FROM jobs WHERE name = 'fold' FOR UPDATE SKIP LOCKED"

_FOLD: Final = """
    WITH taken AS (
        DELETE FROM event_deltas RETURNING bucket, event_type, severity, n
    ), hours AS (
        INSERT INTO event_counts AS c (grain, bucket, event_type, severity, n)
        SELECT 'hour', bucket, event_type, severity, sum(n) FROM taken GROUP BY 2, 3, 4
        ON CONFLICT (grain, bucket, event_type, severity) DO UPDATE SET n = c.n + excluded.n
    )
    INSERT INTO event_counts AS c (grain, bucket, event_type, severity, n)
    SELECT 'day', date_trunc('day', bucket, 'UTC'), event_type, severity, sum(n) FROM taken GROUP BY 2, 3, 4
    ON CONFLICT (grain, bucket, event_type, severity) DO UPDATE SET n = c.n + excluded.n
"""

_NOTE: Final = "UPDATE jobs SET done_at = clock_timestamp() WHERE name = 'fold'"

_LAG: Final = """
    SELECT extract(epoch FROM clock_timestamp() - done_at)::float8 AS seconds,
        (SELECT count(*) FROM (SELECT FROM event_deltas LIMIT 100000) AS part) AS waiting
    FROM jobs WHERE name = 'fold'
"""

STATISTICS: Final = """
    WITH counted AS (
        SELECT event_type, severity, n FROM event_counts WHERE grain = 'day'
        UNION ALL
        SELECT event_type, severity, n FROM event_deltas
    ), recent AS (
        SELECT n FROM event_counts WHERE grain = 'hour' AND bucket >= :first_full_hour
        UNION ALL
        SELECT n FROM event_deltas WHERE bucket >= :first_full_hour
        UNION ALL
        SELECT count(*) FROM system_events WHERE "timestamp" >= :since AND "timestamp" < :first_full_hour
    )
    SELECT
        (SELECT coalesce(json_agg(total), '[]') FROM (
            SELECT event_type, severity, sum(n)::bigint AS n FROM counted GROUP BY 1, 2 HAVING sum(n) <> 0
        ) AS total) AS groups,
        (SELECT coalesce(sum(n), 0)::bigint FROM recent) AS recent,
        (
            SELECT "timestamp" FROM system_events WHERE "timestamp" >= :last_since
            ORDER BY "timestamp" DESC, id DESC LIMIT 1
        ) AS last
"""
"""Day rows and journal, the last 24 hours, and the newest event from `last_since` on: one statement, one snapshot."""


def hour(moment: datetime) -> datetime:
    """Return the bucket of a moment: the start of its hour, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def deltas_of(types: Iterable[str], severities: Iterable[str], timestamps: list[datetime]) -> Deltas:
    """Count new events by hour, type and severity. The three columns have the same length, at least 1."""
    first, last = hour(min(timestamps)), hour(max(timestamps))
    hours = repeat(first) if first == last else map(hour, timestamps)
    return Counter(zip(hours, types, severities, strict=False))  # strict: `repeat` never ends


async def lag(connection: Connection) -> tuple[float, int]:
    """Return the seconds since any collector last folded, and the number of rows in the journal (at most 100,000)."""
    row = await connection.fetchrow(_LAG)
    assert row is not None
    return row["seconds"], row["waiting"]


async def fold(connection: Connection) -> bool:
    """Fold the journal, unless another collector is folding it; return whether this one did."""
    async with connection.transaction():
        if await connection.fetchval(_LOCK_JOB) is None:
            return False
        await connection.execute(_FOLD)
        await connection.execute(_NOTE)
        return True

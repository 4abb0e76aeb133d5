"""Exact counts: every write journals its deltas, one collector folds the journal, statistics add both.

The journal (`event_deltas`) is written in the transaction that writes the events. Its rows are never updated, so
writers share no row. Folding (`fold`) moves them into hour and day rows (`event_counts`) in one statement. A reader's
single statement therefore sees each delta on one side or the other, never on both or neither.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import repeat
from typing import Final

from asyncpg import Connection

Deltas = dict[tuple[datetime, str, str], int]
"""The change of counts by a write: (hour, event_type, severity) to a number of events, negative for deleted ones."""

_LAG: Final = """
    SELECT extract(epoch FROM clock_timestamp() - done_at)::float8 AS seconds,
        (SELECT count(*) FROM (SELECT FROM event_deltas LIMIT 100000) AS part) AS waiting
    FROM jobs WHERE name = 'fold'
"""

REST: Final = ""
"""The type under which the events of all types without a name on their day are counted; no event has it."""

COUNTED_AS: Final = """
    SELECT delta.bucket, delta.severity, delta.n,
        CASE WHEN full_day.bucket IS NULL OR name.event_type IS NOT NULL THEN delta.event_type ELSE '' END
            AS event_type
    FROM ({rows}) AS delta
    LEFT JOIN event_counts AS full_day
        ON full_day.grain = 'full' AND full_day.bucket = date_trunc('day', delta.bucket, 'UTC')
    LEFT JOIN (
        SELECT DISTINCT full_day.bucket AS day, name.event_type
        FROM event_counts AS full_day
        JOIN event_counts AS name ON name.grain = 'day' AND name.bucket = full_day.bucket
        WHERE full_day.grain = 'full'
    ) AS name ON name.day = full_day.bucket AND name.event_type = delta.event_type
"""
"""Counts by hour, type and severity, with the type that the fold counts them under."""

JOURNAL: Final = COUNTED_AS.format(
    rows="SELECT bucket, event_type, severity, sum(n)::bigint AS n FROM event_deltas GROUP BY 1, 2, 3"
)
"""The journal as the fold would count it now."""


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

"""Day partitions of `system_events`: created ahead of time, without gaps, and without blocking writers.

There is no DEFAULT partition, and no partition is created while a writer waits for it: both would make every writer
wait behind one open read. One fixed partition holds everything that is older than the first day.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from asyncpg import Connection

from brain_collector.settings import Settings

_LOCK_JOB: Final = "SELECT name FROM jobs WHERE name = 'maintain' FOR UPDATE"

_NOTE: Final = "UPDATE jobs SET done_at = clock_timestamp() WHERE name = 'maintain'"

_UPPER_BOUNDS: Final = """
    SELECT pg_get_expr(child.relpartbound, child.oid)
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = 'system_events'::regclass
"""

_CREATE: Final = "CREATE TABLE {name} (LIKE system_events INCLUDING ALL)"

_ATTACH: Final = "ALTER TABLE system_events ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')"


async def ensure(connection: Connection, settings: Settings) -> list[str]:
    """Create every missing day up to `days_ahead` after today (UTC); return the names of the new partitions.

    Several collectors take turns. ATTACH needs no lock that conflicts with readers or writers; the connection's
    `lock_timeout` bounds the wait for other changes of the schema.
    """
    created = []
    async with connection.transaction():
        await connection.execute(_LOCK_JOB)
        day = await end(connection)
        while day <= datetime.now(UTC) + timedelta(days=settings.days_ahead):
            created.append(await _create(connection, day))
            day += timedelta(days=1)
        await connection.execute(_NOTE)
    return created


async def end(connection: Connection) -> datetime:
    """Return the end of the last partition."""
    return max(map(_upper_bound, [row[0] for row in await connection.fetch(_UPPER_BOUNDS)]))


async def _create(connection: Connection, day: datetime) -> str:
    name = f"system_events_p{day:%Y%m%d}"
    await connection.execute(_CREATE.format(name=name))
    end_of_day = day + timedelta(days=1)
    await connection.execute(_ATTACH.format(name=name, start=day.isoformat(), end=end_of_day.isoformat()))
    return name


def _upper_bound(bounds: str) -> datetime:
    match = re.search(r"TO \('([^']+)'\)$", bounds)
    assert match is not None, bounds
    return datetime.fromisoformat(match[1]).astimezone(UTC)

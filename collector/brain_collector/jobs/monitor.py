"""Checks that the database and the cache respond, and notes restarts of embedded engines."""

import time
from typing import Final

import asyncpg

from brain_collector.cache import Cache
from brain_collector.health.availability import Availability
from brain_collector.jobs.epoch_watch import EpochWatch
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.storage.connection import DATABASE_ERRORS, Overdue, reason_of

INTERVAL_S: Final = 1.0


_WRITE: Final = "UPDATE jobs SET name = name WHERE name = 'monitor'"

# 16 MiB, dropped with the transaction: a small write can still succeed on a full disk.
_WRITE_16_MIB: Final = """
    UPDATE jobs SET name = name WHERE name = 'monitor';
    CREATE TEMP TABLE room ON COMMIT DROP AS SELECT repeat(md5(n::text), 60) FROM generate_series(1, 8192) AS n
"""


class Monitor:
    """The job `monitor`. A lost database counts as available again once a write of 16 MiB succeeds."""

    name: Final = "monitor"

    def __init__(self, link: SharedLink, cache: Cache, availability: Availability, epoch_watch: EpochWatch) -> None:
        self._link = link
        self._epoch_watch = epoch_watch
        self._cache = cache
        self._availability = availability

    def interval_s(self) -> float:
        """Return the interval, which is fixed."""
        return INTERVAL_S

    async def is_database_responding(self) -> bool:
        """Return whether the database responds to a query on the monitor's connection, which may have to be opened."""
        for _ in range(2):  # the connection may have died since its last use
            try:
                async with self._link.use() as connection:
                    await connection.execute("SELECT 1")
            except Overdue:
                return False
            except DATABASE_ERRORS:
                continue
            return True
        return False

    async def run(self) -> None:
        """Check database, cache and engines; note the outcome."""
        began_s = time.monotonic()
        was_up = self._availability.database == "up"
        try:
            async with self._link.use() as connection:
                await (connection.execute("SELECT 1") if was_up else _write(connection))
                if self._availability.schema_problem is None:
                    await self._epoch_watch.check(connection)
        except DATABASE_ERRORS as error:
            self._availability.database_down(reason_of(error), began_s)
        else:
            if not was_up:  # else it was a read, which may have begun before the database was lost
                self._availability.database_up(began_s)
        self._availability.note_cache(await self._cache.check())
        self._availability.note_restarts()


async def _write(connection: asyncpg.Connection) -> None:
    """Write enough to show that the disk has room, or one row if temporary tables are not allowed."""
    try:
        await connection.execute(_WRITE_16_MIB)
    except asyncpg.InsufficientPrivilegeError:
        await connection.execute(_WRITE)

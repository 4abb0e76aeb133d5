"""A database connection that several share in turn: short jobs, or the monitor and the probes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from brain_collector.settings import Settings
from brain_collector.storage.connection import Link, Overdue


class SharedLink:
    """A `Link` with a lock."""

    def __init__(self, settings: Settings, *, deadline_s: float | None = None) -> None:
        self._link = Link(settings, deadline_s=deadline_s)
        self._lock = asyncio.Lock()
        self._is_aborted = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection once it is free; see `Link.use`.

        Raises:
            Overdue: `abort` was called, now or before: a job that waited for its turn must not begin then.
        """
        async with self._lock:
            if self._is_aborted:
                raise Overdue("the collector is stopping")
            async with self._link.use() as connection:
                yield connection

    def abort(self) -> None:
        """Abort the statement that is running on it, for good: no later use begins."""
        self._is_aborted = True
        self._link.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

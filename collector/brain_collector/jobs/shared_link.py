"""One database connection that all short jobs share in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from brain_collector.settings import Settings
from brain_collector.storage.connection import Link


class SharedLink:
    """A `Link` with a lock."""

    def __init__(self, settings: Settings) -> None:
        self._link = Link(settings)
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection once it is free; see `Link.use`."""
        async with self._lock, self._link.use() as connection:
            yield connection

    def abort(self) -> None:
        """Abort the statement that is running on it."""
        self._link.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

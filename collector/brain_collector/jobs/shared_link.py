"""One database connection for all jobs that are short: they take turns, instead of holding a connection each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from brain_collector.settings import Settings
from brain_collector.storage.connection import Link


class SharedLink:
    """A `Link` with a queue in front of it."""

    def __init__(self, settings: Settings) -> None:
        self._link = Link(settings)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection when it is free; see `Link.use`."""
        async with self._turn, self._link.use() as connection:
            yield connection

    def abort(self) -> None:
        """Break off what is running on it."""
        self._link.abort()

    async def close(self) -> None:
        """Close it."""
        await self._link.close()

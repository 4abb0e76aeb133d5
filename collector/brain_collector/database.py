"""One connection to Postgres that opens when needed, and can be left when Postgres hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from brain_collector.settings import Settings

GONE: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection broke in the middle of a message
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, starting up, stopped by the statement time-out
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.ReadOnlySQLTransactionError,  # the primary became a standby
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.UndefinedTableError,  # not migrated yet
)
"""What says that the database as a whole cannot serve now."""


async def connect(settings: Settings) -> asyncpg.Connection:
    """Open a connection whose session gives up by itself: on locks, on statements, on idling in a transaction."""
    return await asyncpg.connect(
        settings.dsn,
        timeout=settings.connect_deadline_s,
        server_settings=server_settings(settings, statement_timeout_s=settings.write_deadline_s),
    )


def server_settings(settings: Settings, *, statement_timeout_s: float) -> dict[str, str]:
    """Return what a session of ours asks of Postgres."""
    return {
        "application_name": "brain-events",
        "timezone": "UTC",
        "synchronous_commit": "on",  # an acknowledged event is on disk
        "lock_timeout": _ms(settings.lock_deadline_s),
        "statement_timeout": _ms(statement_timeout_s),
        "idle_in_transaction_session_timeout": _ms(2 * settings.write_deadline_s),
    }


class Link:
    """A connection of one task, opened at first use and again after it broke. `deadline_s`: `write_deadline_s`."""

    def __init__(self, settings: Settings, *, deadline_s: float | None = None) -> None:
        self._settings = settings
        self._deadline_s = deadline_s or settings.write_deadline_s
        self._connection: asyncpg.Connection | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection for at most the deadline, then end it from outside.

        `terminate` is the one thing that leaves a hung server: asyncio.timeout around a transaction waits for
        the server to confirm the cancellation. After an error of the connection the next use opens a new one.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._settings)
        connection = self._connection
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(self._deadline_s, connection.terminate)
        try:
            yield connection
        except asyncpg.PostgresError as error:
            if isinstance(error, GONE):
                connection.terminate()
            raise  # else the server refused a statement; the connection is as good as before
        except BaseException:
            connection.terminate()
            raise
        finally:
            deadline.cancel()

    @property
    def is_open(self) -> bool:
        """Whether the next use will find the connection open: it may be stale all the same."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Close politely, or at once when Postgres does not answer."""
        if self._connection is None:
            return
        try:
            await self._connection.close(timeout=1)
        except (*GONE, TimeoutError):
            self._connection.terminate()


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))

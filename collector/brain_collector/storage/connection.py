"""Connections to Postgres that are opened when needed and can be abandoned when Postgres hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from brain_collector.addresses.database_url import connect_arguments
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
    asyncpg.UndefinedTableError,  # never migrated, or not far enough
)
"""Errors that mean that the database as a whole cannot serve now."""

DATABASE_ERRORS: Final = (*GONE, asyncpg.PostgresError)
"""Every error of the database: it cannot serve, or it refused a statement."""

_RAISE_SYNCHRONOUS_COMMIT: Final = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""
"""An acknowledged event is on disk, here and on synchronous standbys. A stricter setting of the server is kept."""


def reason_of(error: BaseException) -> str:
    """Return why the database cannot serve, as one line for people."""
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return "its schema is missing or too old: run `brain-events migrate`"
    if isinstance(error, TimeoutError | Overdue):
        return "it does not respond in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


async def connect(settings: Settings, *, statement_timeout_s: float) -> asyncpg.Connection:
    """Open a connection whose session has time-outs: for locks, for statements, for an idle transaction."""
    server_settings = {
        "application_name": "brain-events",
        "timezone": "UTC",
        "lock_timeout": _ms(settings.lock_deadline_s),
        "statement_timeout": _ms(statement_timeout_s),
        "idle_in_transaction_session_timeout": _ms(2 * statement_timeout_s),
    }
    connection: asyncpg.Connection = await asyncpg.connect(
        **connect_arguments(settings.dsn, server_settings), timeout=settings.connect_deadline_s
    )
    try:
        await connection.execute(_RAISE_SYNCHRONOUS_COMMIT)
    except BaseException:
        connection.terminate()
        raise
    return connection


class Overdue(asyncpg.ConnectionDoesNotExistError):
    """The deadline passed, and the connection was terminated."""


@asynccontextmanager
async def deadline(terminate: Callable[[], None], seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Bound the time that the block may wait for Postgres; yield a function that ends the block sooner.

    Only `terminate` abandons a server that hangs: asyncio.timeout around a transaction waits for the server to
    confirm, and so does asyncpg's own `timeout`. But `terminate` does not wake a COPY that waits for space in the send
    buffer, so the task is cancelled too.

    Raises:
        Overdue: the deadline passed; the connection is terminated.
    """
    task = asyncio.current_task()
    assert task is not None
    overdue = False

    def abort() -> None:
        nonlocal overdue
        if not overdue:
            overdue = True
            terminate()
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, abort)
    try:
        yield abort
    except BaseException as error:
        if overdue and task.uncancel() == 0:  # whatever error it surfaced as; a cancellation by others continues
            raise Overdue(f"no response within {seconds:g} s") from error
        raise
    else:
        if overdue:  # the block ended just then: consume our own cancellation before it is raised elsewhere
            task.uncancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
    finally:
        timer.cancel()


class Link:
    """The connection of one task: opened at its first use, and again after it broke.

    `deadline_s` bounds each use; the default is `write_deadline_s`.
    """

    def __init__(self, settings: Settings, *, deadline_s: float | None = None) -> None:
        self._settings = settings
        self._deadline_s = deadline_s or settings.write_deadline_s
        self._connection: asyncpg.Connection | None = None
        self._abort: Callable[[], None] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection for at most the deadline; after a connection error, the next use opens a new one."""
        try:
            async with deadline(self._terminate, self._deadline_s) as self._abort:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(
                        self._settings, statement_timeout_s=self._settings.write_deadline_s
                    )
                yield self._connection
        except asyncpg.PostgresError as error:
            if isinstance(error, GONE):
                self._terminate()
            raise  # otherwise the server refused a statement, and the connection still works
        except BaseException:
            self._terminate()
            raise
        finally:
            self._abort = None

    def abort(self) -> None:
        """Abort the current use, if there is one."""
        if self._abort is not None:
            self._abort()

    def _terminate(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Close the connection gracefully, or terminate it if Postgres does not respond."""
        if self._connection is None:
            return
        try:
            await self._connection.close(timeout=1)
        except (*GONE, TimeoutError):
            self._connection.terminate()


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))

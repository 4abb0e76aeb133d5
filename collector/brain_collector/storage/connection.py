"""Connections to Postgres that are opened when needed and can be abandoned when Postgres hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import asyncpg

from brain_collector.errors import Unavailable
from brain_collector.settings import Settings
from brain_collector.storage import hosts, pooler
from brain_collector.storage.pooler import PoolerUnsupported, SessionRequired

PRINTED: Final = {"timezone": "UTC", "datestyle": "ISO, MDY"}
"""How the server prints times, whatever the defaults of the database and the role are."""

STATEMENT_LOST: Final = (
    asyncpg.InvalidSQLStatementNameError,  # a pooler lost a prepared statement,
    asyncpg.DuplicatePreparedStatementError,  # or kept that of another client
)
"""Errors of a connection whose server connection the pooler has exchanged."""

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
    *STATEMENT_LOST,
)
"""Errors that mean that the database as a whole cannot serve now."""

DATABASE_ERRORS: Final = (*GONE, asyncpg.PostgresError)
"""Every error of the database: it cannot serve, or it refused a statement."""


def reason_of(error: BaseException) -> str:
    """Return why the database cannot serve, as one line for people."""
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return "its schema is missing or too old: run `brain-events migrate`"
    if isinstance(error, TimeoutError | Overdue):
        return "it does not respond in time"
    if isinstance(error, STATEMENT_LOST):
        return str(PoolerUnsupported())
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def or_unavailable(retry_after_s: int) -> Iterator[None]:
    """Turn every error of the database into a response.

    Raises:
        Unavailable: the database cannot serve, or refused a statement.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        raise Unavailable(f"the database is not available ({reason_of(error)})", retry_after_s=retry_after_s) from error


async def open_connection(dsn: str, *, timeout_s: float, name: str = "brain-events") -> asyncpg.Connection:
    """Open a connection, under a name for `pg_stat_activity`. Every connection of the collector is opened here.

    The startup parameters are those that poolers forward; they refuse others.
    """
    return await hosts.connect(dsn, {"application_name": name, **PRINTED}, timeout_s=timeout_s)


async def connect(settings: Settings, *, statement_timeout_s: float) -> asyncpg.Connection:
    """Open a connection for transactions, with time-outs: for locks, for statements, for an idle transaction.

    Behind a pooler, the time-outs are those of the role; `pooler.missing_timeouts` checks them.

    Raises:
        PoolerUnsupported: the pooler loses prepared statements.
    """

    async def opened() -> asyncpg.Connection:
        return await open_connection(settings.dsn, timeout_s=settings.connect_deadline_s)

    connection = await opened()
    try:
        if not await pooler.set_if_direct(connection, pooler.timeouts(settings, statement_timeout_s)):
            await pooler.require_support(connection, settings.dsn, opened)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def open_session(dsn: str, *, timeout_s: float, name: str = "brain-events") -> asyncpg.Connection:
    """Open a connection for settings, locks and statements that live longer than a transaction.

    Raises:
        SessionRequired: there is a pooler on the way.
    """
    connection = await open_connection(dsn, timeout_s=timeout_s, name=name)
    try:
        if await pooler.is_pooled(connection):
            raise SessionRequired  # noqa: TRY301 - the connection is terminated as after any other error
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

    def abandon(self) -> None:
        """Abort the current use; the next use opens another connection."""
        self.abort()
        self._terminate()

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

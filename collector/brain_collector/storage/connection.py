"""One connection to Postgres that opens when needed, and can be left when Postgres hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
    asyncpg.UndefinedTableError,  # never migrated, or not far enough
)
"""What says that the database as a whole cannot serve now."""


_RAISE_SYNCHRONOUS_COMMIT: Final = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""
"""An acknowledged event is on disk, here and on synchronous standbys; a server that waits for more is left at that."""


def reason_of(error: BaseException) -> str:
    """Return why the database cannot serve, in a line for people."""
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return "it has no schema, or an old one: run `brain-events migrate`"
    if isinstance(error, TimeoutError | Overdue):
        return "it does not answer in time"
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())


async def connect(settings: Settings, *, statement_timeout_s: float) -> asyncpg.Connection:
    """Open a connection whose session gives up by itself: on locks, on statements, on idling in a transaction."""
    connection = await asyncpg.connect(
        settings.dsn,
        timeout=settings.connect_deadline_s,
        server_settings={
            "application_name": "brain-events",
            "timezone": "UTC",
            "lock_timeout": _ms(settings.lock_deadline_s),
            "statement_timeout": _ms(statement_timeout_s),
            "idle_in_transaction_session_timeout": _ms(2 * statement_timeout_s),
        },
    )
    try:
        await connection.execute(_RAISE_SYNCHRONOUS_COMMIT)
    except BaseException:
        connection.terminate()
        raise
    return connection


class Overdue(asyncpg.ConnectionDoesNotExistError):
    """Postgres hung; the connection was ended from outside."""


@asynccontextmanager
async def deadline(terminate: Callable[[], None], seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Bound the time that the block may wait for Postgres; yields what ends it sooner.

    A hung server is left only by `terminate`: asyncio.timeout around a transaction waits for the server to confirm,
    and so does asyncpg's own `timeout`. And `terminate` alone does not wake a COPY that waits for room in the send
    buffer, so the task is cancelled after it.

    Raises:
        Overdue: the time was up; the connection is gone.
    """
    task = asyncio.current_task()
    assert task is not None
    overdue = False

    def leave() -> None:
        nonlocal overdue
        if not overdue:
            overdue = True
            terminate()
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, leave)
    try:
        yield leave
    except BaseException as error:
        if overdue and task.uncancel() == 0:  # whatever it surfaced as; a cancellation by others goes on
            raise Overdue(f"no answer within {seconds:g} s") from error
        raise
    else:
        if overdue:  # it was done just then: swallow our own cancellation before it strikes elsewhere
            task.uncancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
    finally:
        timer.cancel()


class Link:
    """A connection of one task, opened at first use and again after it broke. `deadline_s`: `write_deadline_s`."""

    def __init__(self, settings: Settings, *, deadline_s: float | None = None) -> None:
        self._settings = settings
        self._deadline_s = deadline_s or settings.write_deadline_s
        self._connection: asyncpg.Connection | None = None
        self._leave: Callable[[], None] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection for at most the deadline; after an error of it, the next use opens a new one."""
        try:
            async with deadline(self._terminate, self._deadline_s) as self._leave:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(
                        self._settings, statement_timeout_s=self._settings.write_deadline_s
                    )
                yield self._connection
        except asyncpg.PostgresError as error:
            if isinstance(error, GONE):
                self._terminate()
            raise  # else the server refused a statement; the connection is as good as before
        except BaseException:
            self._terminate()
            raise
        finally:
            self._leave = None

    def abort(self) -> None:
        """Break off whatever is under way."""
        if self._leave is not None:
            self._leave()

    def _terminate(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

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

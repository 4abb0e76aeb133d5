"""Connection poolers: their detection, the features that a collector requires, and the time-outs that they lose.

A pooler gives each transaction any of its server connections. So a session has no settings of its own, and a prepared
statement exists only where it was prepared, unless the pooler keeps track of it, as PgBouncer 1.21 or later does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

import asyncpg

from brain_collector.settings import Settings

TRANSACTION_MODE_PROBES: Final = 20
"""In session mode, a connection keeps its server connection. One probe that finds another one disproves that.

While other clients use the pool, a probe may find the same one by chance.
"""

_PREPARED: Final = "SELECT name, pg_backend_pid() AS pid FROM pg_prepared_statements"

_STATEMENT_MODE: Final = "statement pooling mode"
"""The end of PgBouncer's error for a transaction that it does not allow."""

_UNLIMITED: Final = "SELECT name FROM pg_settings WHERE name = ANY($1) AND setting = '0'"

_pooled: Final[WeakSet[asyncpg.Connection]] = WeakSet()
"""The connections for transactions of this process that lead to a pooler."""

_session_mode_dsns: Final[set[str]] = set()
"""The addresses at which a pooler is in session mode: found by this process since it last lost a connection there."""

_probing: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()
"""Held while two connections are probed: those of several probes would mislead each other, or use up a small pool."""


class PoolerUnsupported(asyncpg.InterfaceError):
    """The pooler loses prepared statements, or refuses transactions."""

    def __init__(
        self,
        defect: str = "loses prepared statements",
        remedy: str = "use PgBouncer 1.21 or later with max_prepared_statements above 0, or pool_mode = session",
    ) -> None:
        super().__init__(f"the connection pooler {defect}: {remedy}, or a URL that bypasses the pooler")


class SessionRequired(asyncpg.InterfaceError):
    """The task needs a session of its own, which a pooler does not give."""

    def __init__(self) -> None:
        super().__init__(
            "this address leads to a connection pooler, and this command needs a session of its own: set "
            "BRAIN_COLLECTOR_DIRECT_URL (--direct-url) to a URL of the same database that bypasses the pooler"
        )


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Return whether there is a pooler on the way: its process id, which cancels queries, is not the server's."""
    return not await _runs_on(connection, connection.get_server_pid())


def leads_to_pooler(connection: asyncpg.Connection) -> bool:
    """Return whether `require_support` was asked about this connection: its server may change unnoticed."""
    return connection in _pooled


async def set_if_direct(connection: asyncpg.Connection, values: dict[str, str]) -> bool:
    """Set parameters of the session, unless it is pooled, in one round trip; return whether they were set."""
    columns = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in values.items())
    status = await connection.execute(f"SELECT {columns} WHERE pg_backend_pid() = {connection.get_server_pid()}")
    return bool(status == "SELECT 1")


def timeouts(settings: Settings, statement_timeout_s: float) -> dict[str, str]:
    """Return the time-outs of a collector's session, in milliseconds."""
    return {
        "lock_timeout": _ms(settings.lock_deadline_s),
        "statement_timeout": _ms(statement_timeout_s),
        "idle_in_transaction_session_timeout": _ms(2 * statement_timeout_s),
    }


def _ms(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))  # 0 would be no limit


async def missing_timeouts(connection: asyncpg.Connection, settings: Settings) -> str | None:
    """Return the statements that give the role its time-outs; None if it has each of them, with any value."""
    values = timeouts(settings, settings.write_deadline_s)
    missing = [row["name"] for row in await connection.fetch(_UNLIMITED, list(values))]
    if not missing:
        return None
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    return "; ".join(f"ALTER ROLE {role} SET {name} = {values[name]}" for name in values if name in missing)


async def require_support(
    connection: asyncpg.Connection, dsn: str, another: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    """Check that a pooler keeps prepared statements, or the session; `another` opens a second connection.

    Raises:
        PoolerUnsupported: it does not: statements fail, or those of another process are executed in their place.
    """
    _pooled.add(connection)
    try:
        pid = None if dsn in _session_mode_dsns else await _pid_of_prepared(connection)
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        raise PoolerUnsupported from None  # the server connection has a statement that another process left behind
    except asyncpg.PostgresError as error:
        if _STATEMENT_MODE not in str(error):
            raise
        raise PoolerUnsupported("refuses transactions", "set pool_mode = transaction or session") from None
    connection.add_termination_listener(lambda _: _session_mode_dsns.discard(dsn))
    if pid is None:
        return
    async with _probing.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if dsn in _session_mode_dsns:
            return
        other = await another()
        try:
            if not await _is_bound(connection, pid, other):
                raise PoolerUnsupported
        finally:
            other.terminate()
        _session_mode_dsns.add(dsn)


async def _pid_of_prepared(connection: asyncpg.Connection) -> int | None:
    """Prepare a statement; return the process id of the server that has it by its name, or None.

    A pooler that can prepare a statement again on each server connection gives it a name of its own.
    """
    async with connection.transaction():
        statement = await connection.prepare(_PREPARED)
        name = statement.get_name()
        pids = [row["pid"] for row in await statement.fetch() if row["name"] == name]
        if not pids:
            return None
        await connection.execute(f'DEALLOCATE "{name}"')
        return int(pids[0])


async def _is_bound(connection: asyncpg.Connection, pid: int, other: asyncpg.Connection) -> bool:
    """Return whether the pooler gives a connection one server connection, with this process id, until it is closed.

    In transaction mode, the server connection that was returned last is the next to be used. So the other connection
    occupies it with a transaction; or, if a third one is faster, the first connection moves to another. If the other
    one is given the same second server connection each time, the first one finds that on top when it is returned; a
    pooler that uses its server connections in turn gives it at the second attempt.
    """
    for _ in range(TRANSACTION_MODE_PROBES):
        await other.execute("BEGIN")
        try:
            if await _runs_on(other, pid) or not await _runs_on(connection, pid):
                return False
        finally:
            await other.execute("ROLLBACK")
        if not (await _runs_on(connection, pid) and await _runs_on(connection, pid)):
            return False
    return True


async def _runs_on(connection: asyncpg.Connection, pid: int) -> bool:
    return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {pid}") == "SELECT 1")

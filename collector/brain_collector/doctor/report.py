"""Runs every check on a session like a collector's, and writes what is found: a line a check, or JSON."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, TextIO

import asyncpg
import msgspec

from brain_collector.doctor import capacity, data, postgres
from brain_collector.doctor.check import Bounds, Check, Examination
from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, connect, deadline, reason_of
from brain_collector.storage.migrate import without_password

Look = Callable[[Examination], Awaitable[list[Check]]]

_SESSION: Final = "SELECT name, setting FROM pg_settings WHERE name LIKE '%\\_timeout' OR name = 'synchronous_commit'"
_READ_ONLY: Final = "SET default_transaction_read_only = on; SET application_name = 'brain-events doctor'"

LOOKS: Final[dict[str, Look]] = {
    "postgres": postgres.server,
    "durability": postgres.durability,
    "replication": postgres.replication,
    "session": postgres.session,
    "connections": capacity.connections,
    "transactions": capacity.transactions,
    "locks": capacity.locks,
    "disk": capacity.disk,
    "wraparound": capacity.wraparound,
}
LOOKS_AT_DATA: Final[dict[str, Look]] = {
    "lock table": capacity.lock_table,
    "partitions": data.partitions,
    "indexes": data.indexes,
    "jobs": data.jobs,
    "recount": data.recount,
    "duplicates": data.duplicates,
}
"""These need the schema."""


async def run(settings: Settings, bounds: Bounds, out: TextIO, *, as_json: bool) -> int:
    """Look at everything and write what is found; return 0 if nothing is a problem, else 1."""
    checks = []
    async for check in examine(settings, bounds):
        checks.append(check)
        if not as_json:
            out.write(f"{check.status:<8} {check.name:<16} {check.detail}\n")
            out.write(f"{'':<25} -> {check.advice}\n" if check.advice else "")
            out.flush()
    problems = sum(check.status == "problem" for check in checks)
    warnings = sum(check.status == "warning" for check in checks)
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode({"ok": not problems, "checks": checks})).decode() + "\n")
    else:
        out.write(f"\n{len(checks)} checks, {problems} problems, {warnings} warnings\n")
    return 1 if problems else 0


async def examine(settings: Settings, bounds: Bounds) -> AsyncIterator[Check]:
    """Yield what is found; a check that cannot be made is a problem, not silence."""
    settings, data_dir = _found(settings)
    try:
        connection = await connect(settings, statement_timeout_s=settings.write_deadline_s)
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        advice = "start it; is the address right, the password good, a firewall between?"
        if data_dir is not None:
            advice = f"start the collector on {data_dir}, name another --data-dir, or a Postgres with --database-url"
        yield Check("postgres", "problem", f"{without_password(settings.dsn)}: {reason_of(error)}", advice)
    else:
        try:
            async for check in _database(connection, settings, bounds, data_dir):
                yield check
        finally:
            connection.terminate()
    yield await capacity.cache(settings)


def _found(settings: Settings) -> tuple[Settings, Path | None]:
    """Return the settings with addresses: without one, of the engines that a collector runs on its data directory."""
    if settings.database_url is not None:
        return settings, None
    from brain_collector.embedded import datadir, postgres, valkey  # noqa: PLC0415 - only where there is one

    data_dir = Path(settings.data_dir or "").resolve()
    sockets = datadir.socket_path(data_dir)
    redis_url = settings.redis_url or valkey.url(sockets)
    return msgspec.structs.replace(settings, database_url=postgres.url(sockets), redis_url=redis_url), data_dir


async def _database(
    connection: asyncpg.Connection, settings: Settings, bounds: Bounds, data_dir: Path | None
) -> AsyncIterator[Check]:
    session = {row["name"]: row["setting"] for row in await connection.fetch(_SESSION)}
    await connection.execute(f"{_READ_ONLY}; SET statement_timeout = {int(bounds.timeout_s * 1000)}")
    case = Examination(connection, settings, bounds, data_dir, session)
    for name, look in LOOKS.items():
        for check in await _made(name, look, case):
            yield check
    schema = await _made("schema", postgres.schema, case)
    for check in schema:
        yield check
    for name, look in LOOKS_AT_DATA.items() if schema[0].status == "ok" else ():
        for check in await _made(name, look, case):
            yield check


async def _made(name: str, look: Look, case: Examination) -> list[Check]:
    try:
        async with deadline(case.connection.terminate, case.bounds.timeout_s + 5):
            return await look(case)
    except (*GONE, asyncpg.PostgresError) as error:
        advice = "look in the server's log; to see everything, the role needs pg_monitor"
        if isinstance(error, asyncpg.QueryCanceledError):
            advice = "look at less with --days, or longer with --timeout-s"
        return [Check(name, "problem", f"could not be looked at: {reason_of(error)}", advice)]

"""Runs every check on a session of the doctor's, and writes the results: a line a check, or JSON."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, TextIO

import asyncpg
import msgspec

from brain_collector import printable
from brain_collector.addresses.masking import masked
from brain_collector.doctor import capacity, data, epochs, postgres, session
from brain_collector.doctor.check import Bounds, Check, Examination
from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, deadline, open_session, reason_of
from brain_collector.storage.pooler import SessionRequired

NAME: Final = "brain-events doctor"

Checker = Callable[[Examination], Awaitable[list[Check]]]

CHECKERS: Final[dict[str, Checker]] = {
    "postgres": postgres.server,
    "durability": postgres.durability,
    "replication": postgres.replication,
    "session": session.session,
    "connections": capacity.connections,
    "transactions": capacity.transactions,
    "locks": capacity.locks,
    "disk": capacity.disk,
    "wraparound": capacity.wraparound,
}
DATA_CHECKERS: Final[dict[str, Checker]] = {
    "lock table": capacity.lock_table,
    "epoch": epochs.epoch,
    "partitions": data.partitions,
    "indexes": data.indexes,
    "jobs": data.jobs,
    "recount": data.recount,
    "duplicates": data.duplicates,
}
"""Checks that need the schema."""


async def run(settings: Settings, bounds: Bounds, out: TextIO, *, as_json: bool) -> int:
    """Run every check and write the results; return 0 if none is a problem, else 1."""
    checks = []
    async for check in examine(settings, bounds):
        checks.append(check)
        if not as_json:
            out.write(f"{check.status:<8} {check.name:<16} {printable.one_line(check.detail)}\n")
            out.write(f"{'':<25} -> {printable.one_line(check.advice)}\n" if check.advice else "")
            out.flush()
    problems = sum(check.status == "problem" for check in checks)
    warnings = sum(check.status == "warning" for check in checks)
    if as_json:
        report = msgspec.json.format(msgspec.json.encode({"ok": not problems, "checks": checks})).decode()
        out.write(printable.json_text(report) + "\n")
    else:
        out.write(f"\n{len(checks)} checks, {problems} problems, {warnings} warnings\n")
    return 1 if problems else 0


async def examine(settings: Settings, bounds: Bounds) -> AsyncIterator[Check]:
    """Yield the results; a check that fails to run is a problem."""
    settings, data_dir = _with_addresses(settings)
    try:
        connection = await open_session(settings.session_dsn, timeout_s=settings.connect_deadline_s, name=NAME)
    except SessionRequired as error:
        yield Check("pooler", "problem", f"{masked(settings.session_dsn)}: cannot examine it", str(error))
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        advice = "check that the server runs, the address, the password, and firewalls"
        if data_dir is not None:
            advice = f"start the collector on {data_dir}, or use --data-dir or --database-url to name another database"
        yield Check("postgres", "problem", f"{masked(settings.session_dsn)}: {reason_of(error)}", advice)
    else:
        try:
            async for check in _database(connection, settings, bounds, data_dir):
                yield check
        finally:
            connection.terminate()
    yield await capacity.cache(settings)


def _with_addresses(settings: Settings) -> tuple[Settings, Path | None]:
    """Return settings with a database address: by default those of the embedded engines in the data directory."""
    if settings.database_url is not None:
        return settings, None
    from brain_collector.embedded import datadir, postgres, valkey  # noqa: PLC0415 - only for an embedded database

    data_dir = Path(settings.data_dir or "").resolve()
    sockets = datadir.socket_path(data_dir)
    redis_url = settings.redis_url or valkey.url(sockets)
    return msgspec.structs.replace(settings, database_url=postgres.url(sockets), redis_url=redis_url), data_dir


async def _database(
    connection: asyncpg.Connection, settings: Settings, bounds: Bounds, data_dir: Path | None
) -> AsyncIterator[Check]:
    examination = Examination(connection, settings, bounds, data_dir)
    for name, checker in CHECKERS.items():
        for check in await _run_check(name, checker, examination):
            yield check
    schema = await _run_check("schema", postgres.schema, examination)
    for check in schema:
        yield check
    for name, checker in DATA_CHECKERS.items() if schema[0].status == "ok" else ():
        for check in await _run_check(name, checker, examination):
            yield check


async def _run_check(name: str, checker: Checker, examination: Examination) -> list[Check]:
    try:
        async with (
            deadline(examination.connection.terminate, examination.bounds.timeout_s + 5),
            examination.connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await examination.connection.execute(_limits(examination))
            return await checker(examination)
    except (*GONE, asyncpg.PostgresError) as error:
        advice = "see the server's log; the role may lack the rights of pg_monitor"
        if isinstance(error, asyncpg.QueryCanceledError):
            advice = "recount fewer days with --days, or allow more time with --timeout-s"
        return [Check(name, "problem", f"the check failed: {reason_of(error)}", advice)]


def _limits(examination: Examination) -> str:
    """Return the statement that sets the time-outs of a check, for its transaction only."""
    statement_ms, lock_ms = (
        int(s * 1000) for s in (examination.bounds.timeout_s, examination.settings.lock_deadline_s)
    )
    return f"SET LOCAL statement_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms}"

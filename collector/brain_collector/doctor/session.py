"""The check of a collector's connection: its time-outs, and the pooler on the way, if there is one."""

from typing import Final

import asyncpg

from brain_collector.doctor.check import Check, Examination
from brain_collector.storage import pooler
from brain_collector.storage.connection import GONE, connect, reason_of

_IDENTITY: Final = "SELECT pg_postmaster_start_time(), current_database()"
"""Two servers were not started in the same microsecond; and every role may ask for it."""

_VALUES: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"


async def session(examination: Examination) -> list[Check]:
    """Connect as a collector does, and check the session: without time-outs, a statement that hangs blocks others."""
    settings = examination.settings
    try:
        connection = await connect(settings, statement_timeout_s=settings.write_deadline_s)
    except (*GONE, asyncpg.PostgresError) as error:
        advice = "check BRAIN_COLLECTOR_DATABASE_URL and the pooler; see how-to/pgbouncer in the manual"
        return [Check("session", "problem", f"a collector cannot connect: {reason_of(error)}", advice)]
    try:
        return [await _session(examination, connection)]
    finally:
        connection.terminate()


async def _session(examination: Examination, connection: asyncpg.Connection) -> Check:
    identity = await examination.connection.fetchrow(_IDENTITY)
    if identity != await connection.fetchrow(_IDENTITY):
        detail = "--direct-url and --database-url lead to different databases"
        return Check("session", "problem", detail, "let --direct-url name the database behind the pooler")
    names = pooler.timeouts(examination.settings, examination.settings.write_deadline_s)
    values = {row["name"]: row["setting"] for row in await connection.fetch(_VALUES, list(names))}
    listed = ", ".join(f"{name} {values[name]} ms" for name in names)
    way = "through a connection pooler" if await pooler.is_pooled(connection) else "directly"
    detail = f"a collector connects {way}, with {listed}"
    missing = await pooler.missing_timeouts(connection, examination.settings)
    if missing:
        return Check("session", "warning", detail, f"run {missing}; then RECONNECT on the pooler")
    return Check("session", "ok", detail)

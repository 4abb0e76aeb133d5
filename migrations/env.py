"""Runs the revisions on a Postgres: each in its own transaction, one migration process at a time."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from brain_collector.storage.connection import open_session
from brain_collector.storage.migrate import CONNECT_S

MIGRATION_LOCK = 0x6272_6169  # "brai": two processes that start at the same time run one after the other
LOCK_POLL_S = 0.2

logger = logging.getLogger("brain_collector.storage.migrate")

TRY_LOCK = text("SELECT pg_try_advisory_lock(:lock)")
HOLDER = text(
    "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database "
    "WHERE locktype = 'advisory' AND objid = :lock AND granted AND datname = current_database()"
)


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(dialect_name="postgresql", literal_binds=True, output_buffer=context.config.output_buffer)
    with context.begin_transaction():
        context.run_migrations()


def run_in(connection: Connection) -> None:
    """Acquire the lock, then run the missing revisions. The lock ends with the connection, also if the process dies."""
    acquire_lock(connection)
    lock_ms = int(context.config.attributes["lock_s"] * 1000)
    connection.execute(text(f"SET lock_timeout = {lock_ms}"))
    connection.execute(text("SET statement_timeout = 0"))  # the role may have time-outs for collectors, and an index
    connection.execute(text("SET idle_in_transaction_session_timeout = 0"))  # of a large table takes longer
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def acquire_lock(connection: Connection) -> None:
    """Poll for the lock: a wait inside `pg_advisory_lock` holds a snapshot, which blocks CREATE INDEX CONCURRENTLY."""
    is_logged = False
    while not connection.execute(TRY_LOCK, {"lock": MIGRATION_LOCK}).scalar_one():
        if not is_logged:
            pid = connection.execute(HOLDER, {"lock": MIGRATION_LOCK}).scalar()
            logger.warning("another migration is running (backend %s); waiting until it is done", pid)
            is_logged = True
        connection.commit()
        time.sleep(LOCK_POLL_S)
    connection.commit()


async def run_online(connect: Callable[[], Any]) -> None:
    """Open a connection, run the revisions, and close it."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_in)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    dsn = context.config.attributes["dsn"]
    asyncio.run(run_online(lambda: open_session(dsn, timeout_s=CONNECT_S)))

"""Run the revisions against one Postgres: each in its own transaction, one migrator at a time."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

MIGRATION_LOCK = 0x6272_6169  # "brai": two that start at once take turns
TURN_POLL_S = 0.2

logger = logging.getLogger("brain_collector.storage.migrate")

TAKE_TURN = text("SELECT pg_try_advisory_lock(:lock)")
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
    """Take the turn, then run what is missing. The turn ends with the connection, also if this process is killed."""
    await_turn(connection)
    lock_ms = int(context.config.attributes["lock_s"] * 1000)
    connection.execute(text(f"SET lock_timeout = {lock_ms}"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def await_turn(connection: Connection) -> None:
    """Poll: who waits inside `pg_advisory_lock` holds a snapshot, and CREATE INDEX CONCURRENTLY would wait for that."""
    told = False
    while not connection.execute(TAKE_TURN, {"lock": MIGRATION_LOCK}).scalar_one():
        if not told:
            pid = connection.execute(HOLDER, {"lock": MIGRATION_LOCK}).scalar()
            logger.warning("another migration is running (backend %s); waiting until it is done", pid)
            told = True
        connection.commit()
        time.sleep(TURN_POLL_S)
    connection.commit()


async def run_online(connect: Callable[[], Any]) -> None:
    """Open one connection, run, and leave nothing behind."""
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
    asyncio.run(run_online(lambda: asyncpg.connect(dsn, timeout=10)))

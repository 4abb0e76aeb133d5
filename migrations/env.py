"""Run the revisions against one Postgres: in one transaction, one migration at a time over all starters."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

MIGRATION_LOCK = 0x6272_6169  # "brai": two collectors that start at once take turns
LOCK_TIMEOUT = "5s"  # a migration gives up rather than queue all traffic behind itself


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(dialect_name="postgresql", literal_binds=True, output_buffer=context.config.output_buffer)
    with context.begin_transaction():
        context.run_migrations()


def run_in(connection: Connection) -> None:
    """Take the lock, then run what is missing."""
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


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

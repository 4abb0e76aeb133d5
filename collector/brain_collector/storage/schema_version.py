"""The schema's revision: which one this release needs, which one a database has, and what follows from it.

Alembic, which runs migrations, is not imported here: a collector that starts rarely needs it.
"""

from pathlib import Path
from typing import Final

import asyncpg

from brain_collector.storage.connection import GONE, open_session

CONNECT_S: Final = 10.0


def _migrations_dir() -> Path:
    here = Path(__file__).resolve().parents[1]
    installed = here / "migrations"  # a wheel carries them inside the package
    return installed if installed.is_dir() else here.parents[1] / "migrations"


MIGRATIONS: Final = _migrations_dir()
KNOWN: Final = frozenset(path.stem.partition("_")[0] for path in MIGRATIONS.glob("versions/*.py"))
"""Every revision that this version knows: each file's name begins with its own."""
HEAD: Final = max(KNOWN)
"""The newest revision, which this version requires."""


async def is_current(dsn: str) -> bool:
    """Return whether a database has the newest revision; False also if it cannot be read."""
    try:
        connection = await open_session(dsn, timeout_s=CONNECT_S)
        try:
            return await revision_of(connection) == HEAD
        finally:
            connection.terminate()
    except (*GONE, asyncpg.PostgresError):
        return False


async def revision_of(connection: asyncpg.Connection) -> str | None:
    """Return the revision of the database of an open connection, or None if it was never migrated."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def encoding_problem(connection: asyncpg.Connection) -> str | None:
    """Return why events cannot be stored and searched in the encoding of the database, if so."""
    encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
    if encoding == "UTF8":
        return None
    return (
        f"the encoding of the database is {encoding}, this collector needs UTF8: create another one with "
        "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )


async def schema_problem(connection: asyncpg.Connection) -> str | None:
    """Return what is wrong with the database, if anything, and the remedy after a colon.

    A newer schema is fine: migrations keep this release running.
    """
    if problem := await encoding_problem(connection):
        return problem
    revision = await revision_of(connection)
    if revision == HEAD or (revision is not None and revision not in KNOWN):
        return None
    state = "has no schema" if revision is None else f"is at revision {revision}"
    return f"the database {state}, this collector needs {HEAD}: run `brain-events migrate`"

"""Schema migrations: runs the revisions with Alembic."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

import asyncpg
import msgspec
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from brain_collector.addresses.masking import masked
from brain_collector.errors import CollectorError
from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, open_session, reason_of
from brain_collector.storage.schema_version import CONNECT_S, KNOWN, MIGRATIONS, encoding_problem, revision_of

logger: Final = logging.getLogger(__name__)


class MigrationError(CollectorError):
    """A migration failed; nothing of it was kept."""


class LocksBusy(MigrationError):  # noqa: N818 - an outcome that is retried
    """A lock could not be acquired in time."""


class Patience(msgspec.Struct, frozen=True):
    """How a migration acquires its locks beside live traffic: by many short attempts.

    While it waits for a lock, all later statements wait too, so `lock_s` is below a collector's `lock_deadline_s`.
    """

    lock_s: float = 1.0
    attempts: int = 30


def patience(settings: Settings) -> Patience:
    """Return how long a migration waits for its locks, and how often it retries."""
    return Patience(settings.migrate_lock_s, settings.migrate_attempts)


def upgrade(dsn: str, revision: str = "head", patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
    """Upgrade the schema to `revision`. Concurrent callers take turns; the second one has nothing to do."""
    asyncio.run(_require_encoding(dsn))
    _run(command.upgrade, dsn, revision, patience)


def downgrade(dsn: str, revision: str, patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
    """Downgrade the schema to `revision`; `base` removes everything, including all events."""
    _run(command.downgrade, dsn, revision, patience)


def _run(step: Callable[[Config, str], None], dsn: str, revision: str, patience: Patience) -> None:
    """Run an Alembic command; finished revisions are kept, and one that could not acquire its locks is retried."""
    for attempt in range(1, patience.attempts + 1):
        try:
            with _named_errors(dsn):
                return step(_config(dsn, patience), revision)
        except LocksBusy as error:
            if attempt == patience.attempts:
                raise MigrationError(
                    f"{error} in {attempt} attempts of {patience.lock_s:g} s; another session holds a lock: find old "
                    "transactions in pg_stat_activity, end them with pg_terminate_backend, and run this again"
                ) from None
            wait_s = random.uniform(0.2, 1.0)  # noqa: S311 - jitter, not a secret
            logger.warning("%s; attempt %d of %d in %.1f s", error, attempt + 1, patience.attempts, wait_s)
            time.sleep(wait_s)
    return None


def sql(output: TextIO, revision: str = "head") -> None:
    """Write the SQL of an upgrade from an empty database to `revision`, to be run by hand."""
    config = _config("")
    config.output_buffer = output
    command.upgrade(config, revision, sql=True)


async def current(dsn: str) -> str | None:
    """Return the revision of the database, or None if it was never migrated."""
    with _named_errors(dsn):
        connection = await open_session(dsn, timeout_s=CONNECT_S)
        try:
            return await revision_of(connection)
        finally:
            await connection.close()


async def _require_encoding(dsn: str) -> None:
    with _named_errors(dsn):
        connection = await open_session(dsn, timeout_s=CONNECT_S)
        try:
            problem = await encoding_problem(connection)
        finally:
            connection.terminate()
    if problem:
        raise MigrationError(f"cannot migrate {masked(dsn)}: {problem}")


@contextmanager
def _named_errors(dsn: str) -> Iterator[None]:
    """Turn the errors of Alembic, the driver and the network into a `MigrationError` of one line."""
    try:
        yield
    except CommandError as error:
        raise MigrationError(f"{error}; the revisions are {', '.join(sorted(KNOWN))}, base and head") from None
    except (*GONE, asyncpg.PostgresError, DBAPIError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, DBAPIError) and error.__cause__ else error
        cause = cause.__cause__ or cause  # SQLAlchemy puts an error of its own between its outer one and the driver's
        if isinstance(cause, asyncpg.LockNotAvailableError | asyncpg.DeadlockDetectedError):
            raise LocksBusy(f"cannot migrate {masked(dsn)}: could not acquire the lock") from None
        raise MigrationError(f"cannot migrate {masked(dsn)}: {reason_of(cause)}") from None


def _config(dsn: str, patience: Patience | None = None) -> Config:
    config = Config(attributes={"dsn": dsn, "lock_s": (patience or Patience()).lock_s})
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config

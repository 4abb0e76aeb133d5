"""PostgreSQL and Valkey as part of the collector: started before it serves, watched while it does, stopped after it.

    with embedded.running(Config(data_dir=Path(...))) as engines:
        serve(engines.database_url, engines.redis_url)      # and, as a task of its event loop: engines.watch()

`postgres` and `valkey` describe the servers, `supervisor` runs them, `datadir` provides the directory and the user.
May import the shared files only. Must not know the collector: it takes a configuration and returns addresses.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from brain_collector.embedded import datadir, postgres, valkey
from brain_collector.embedded.errors import DataDirError, EmbeddedError, EngineFailed, EngineMissing
from brain_collector.embedded.supervisor import Owner, Status, Supervised, last_lines

__all__ = [
    "Config",
    "DataDirError",
    "EmbeddedError",
    "EngineFailed",
    "EngineMissing",
    "Engines",
    "Status",
    "running",
]

logger = logging.getLogger(__name__)

PREDECESSOR_PATIENCE_S = 60.0
"""Maximum wait for the server of a killed collector to shut down."""
MAX_FAILED_STARTS = 5
"""With backoff this takes three seconds: backends that outlived a killed postmaster have ended by then."""
VALKEY_PATIENCE_S = 5.0
POLL_S = 0.02
WATCH_INTERVAL_S = 0.1


class Config(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    pg_bin: Path | None = None
    """Directory of `postgres` and `initdb`. None: those of the wheel, else those of the system."""
    pg_user: str | None = None
    """User that the engines run as if this process is root."""
    pg_settings: Mapping[str, str] = {}
    """Server settings that extend or override `postgres.SETTINGS`."""
    with_valkey: bool = True
    valkey_max_memory: str = "64mb"
    stop_patience_s: float = 10.0
    """Maximum time for an engine to stop by itself before it is forced to."""


class Engines:
    """The running engines. `redis_url` is None if Valkey is missing or fails to start: use the in-process cache."""

    def __init__(self, sockets: Path, database: Supervised, cache: Supervised | None) -> None:
        self.database_url = postgres.url(sockets)
        self.redis_url = valkey.url(sockets) if cache else None
        self._supervised = [database, *([cache] if cache else [])]

    @property
    def status(self) -> tuple[Status, ...]:
        return tuple(supervised.status for supervised in self._supervised)

    async def watch(self) -> None:
        """Restart engines that end, until cancelled; runs on the event loop of the main thread, and never raises."""
        while True:
            for supervised in self._supervised:
                supervised.step()
            await asyncio.sleep(WATCH_INTERVAL_S)


@contextmanager
def running(config: Config) -> Iterator[Engines]:
    """Start the engines, wait until they accept connections, and stop them at the end. Call it from the main thread.

    It blocks: for half a second at the first start, a tenth at later ones, and for the recovery after a crash.

    Raises:
        DataDirError: the directory is in use, not accessible, or holds data of another version.
        EngineMissing: no PostgreSQL is installed.
        EngineFailed: PostgreSQL does not start; the message ends with the last lines of its log.
    """
    with ExitStack() as stack:
        data_dir = stack.enter_context(datadir.opened(config.data_dir))
        owner = datadir.choose_owner(data_dir, config.pg_user)
        sockets = datadir.socket_dir(data_dir, owner)
        if sockets.parent != data_dir:
            stack.callback(_remove_if_empty, sockets)
        cache = _start_valkey(config, data_dir, sockets, owner, stack)  # starts in parallel with PostgreSQL
        program = postgres.program(data_dir, sockets, owner, bin_dir=config.pg_bin, settings=config.pg_settings)
        database = Supervised(program)
        stack.callback(database.stop, config.stop_patience_s)
        if cache:
            stack.callback(cache.ask_to_stop)
        _wait_for_postgres(database)
        if cache and not _wait_for_valkey(cache):
            cache.stop(config.stop_patience_s)
            cache = None
        yield Engines(sockets, database, cache)


def _start_valkey(config: Config, data_dir: Path, sockets: Path, owner: Owner, stack: ExitStack) -> Supervised | None:
    if not config.with_valkey:
        return None
    try:
        program = valkey.program(data_dir, sockets, owner, max_memory=config.valkey_max_memory)
    except EngineMissing as error:
        logger.warning("%s Until then, the collector uses its in-process cache.", error)
        return None
    cache = Supervised(program)
    stack.callback(cache.stop, config.stop_patience_s)
    cache.step()
    return cache


def _wait_for_postgres(database: Supervised) -> None:
    """Wait as long as the server runs, since a recovery may be long; give up on one that cannot run."""
    program, give_up_at_s = database.program, time.monotonic() + PREDECESSOR_PATIENCE_S
    while not database.ready:
        database.step()
        if database.status.waits_for:
            raise EngineFailed(f"PostgreSQL cannot start: {database.status.waits_for}.")
        if database.exits >= MAX_FAILED_STARTS:
            raise EngineFailed(
                f"PostgreSQL does not start. The last lines of {program.log}:\n{last_lines(program.log)}"
            )
        if not database.status.running and time.monotonic() > give_up_at_s:
            raise EngineFailed(
                f"An earlier PostgreSQL server still holds {program.log.parent} after {PREDECESSOR_PATIENCE_S:.0f} s. "
                f"Stop it; its pid is the first line of postgres/postmaster.pid. The last lines of {program.log}:\n"
                f"{last_lines(program.log)}"
            )
        time.sleep(POLL_S)


def _wait_for_valkey(cache: Supervised) -> bool:
    give_up_at_s = time.monotonic() + VALKEY_PATIENCE_S
    while not cache.ready:
        cache.step()
        if cache.exits >= MAX_FAILED_STARTS or time.monotonic() > give_up_at_s:
            logger.warning(
                "Valkey does not start (see %s). The collector uses its in-process cache.", cache.program.log
            )
            return False
        time.sleep(POLL_S)
    return True


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()

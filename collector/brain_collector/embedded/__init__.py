"""PostgreSQL and Valkey inside the collector's own life: started before it serves, watched, stopped after it.

    with embedded.running(Config(data_dir=Path(...))) as engines:
        serve(engines.database_url, engines.redis_url)      # and, as a task of its event loop: engines.watch()

`postgres` and `valkey` say what is run, `supervisor` how, `datadir` where and under which user.
May import the ground floor only. Must not know the collector: it gets a configuration and returns addresses.
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
"""How long a server of a killed collector may take to finish its shutdown."""
MAX_FAILED_STARTS = 5
"""With back-off, three seconds: backends that outlived a killed postmaster are gone by then."""
VALKEY_PATIENCE_S = 5.0
POLL_S = 0.02
WATCH_INTERVAL_S = 0.1


class Config(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    pg_bin: Path | None = None
    """Directory of `postgres` and `initdb`; None looks for the wheel, then for a system's installation."""
    pg_user: str | None = None
    """Who the engines run as when we are root."""
    pg_settings: Mapping[str, str] = {}
    """Server settings beside, or instead of, those in `postgres.SETTINGS`."""
    with_valkey: bool = True
    valkey_max_memory: str = "64mb"
    stop_patience_s: float = 10.0
    """How long an engine may take to stop before it is made to."""


class Engines:
    """The running engines. `redis_url` is None where Valkey is missing or does not start: use the in-process cache."""

    def __init__(self, sockets: Path, database: Supervised, cache: Supervised | None) -> None:
        self.database_url = postgres.url(sockets)
        self.redis_url = valkey.url(sockets) if cache else None
        self._supervised = [database, *([cache] if cache else [])]

    @property
    def status(self) -> tuple[Status, ...]:
        return tuple(supervised.status for supervised in self._supervised)

    async def watch(self) -> None:
        """Start again what dies, until cancelled; runs on the event loop of the main thread, and never raises."""
        while True:
            for supervised in self._supervised:
                supervised.step()
            await asyncio.sleep(WATCH_INTERVAL_S)


@contextmanager
def running(config: Config) -> Iterator[Engines]:
    """Start the engines, wait until they answer, and stop them at the end. Call it from the main thread.

    It blocks: half a second at the first start, a tenth at the next, as long as recovery takes after a crash.

    Raises:
        DataDirError: the directory is in use, out of reach, or holds another version's data.
        EngineMissing: there is no PostgreSQL.
        EngineFailed: PostgreSQL does not start; the message ends with what it said.
    """
    with ExitStack() as stack:
        data_dir = stack.enter_context(datadir.opened(config.data_dir))
        owner = datadir.choose_owner(data_dir, config.pg_user)
        sockets = datadir.socket_dir(data_dir, owner)
        if sockets.parent != data_dir:
            stack.callback(_remove_if_empty, sockets)
        cache = _begin_valkey(config, data_dir, sockets, owner, stack)  # comes up while PostgreSQL does
        program = postgres.program(data_dir, sockets, owner, bin_dir=config.pg_bin, settings=config.pg_settings)
        database = Supervised(program)
        stack.callback(database.stop, config.stop_patience_s)
        if cache:
            stack.callback(cache.ask_to_stop)
        _await_postgres(database)
        if cache and not _came_up(cache):
            cache.stop(config.stop_patience_s)
            cache = None
        yield Engines(sockets, database, cache)


def _begin_valkey(config: Config, data_dir: Path, sockets: Path, owner: Owner, stack: ExitStack) -> Supervised | None:
    if not config.with_valkey:
        return None
    try:
        program = valkey.program(data_dir, sockets, owner, max_memory=config.valkey_max_memory)
    except EngineMissing as error:
        logger.warning("%s The cache stays in this process.", error)
        return None
    cache = Supervised(program)
    stack.callback(cache.stop, config.stop_patience_s)
    cache.step()
    return cache


def _await_postgres(database: Supervised) -> None:
    """Wait for as long as the server lives (a recovery may be long), not for one that cannot live."""
    program, give_up_at = database.program, time.monotonic() + PREDECESSOR_PATIENCE_S
    while not database.ready:
        database.step()
        if database.status.waits_for:
            raise EngineFailed(f"PostgreSQL does not start: {database.status.waits_for}.")
        if database.exits >= MAX_FAILED_STARTS:
            raise EngineFailed(f"PostgreSQL does not start. The end of {program.log}:\n{last_lines(program.log)}")
        if not database.status.running and time.monotonic() > give_up_at:
            raise EngineFailed(
                f"An earlier PostgreSQL server still holds {program.log.parent} after {PREDECESSOR_PATIENCE_S:.0f} s. "
                f"Its pid is the first line of postgres/postmaster.pid; stop it. The end of {program.log}:\n"
                f"{last_lines(program.log)}"
            )
        time.sleep(POLL_S)


def _came_up(cache: Supervised) -> bool:
    give_up_at = time.monotonic() + VALKEY_PATIENCE_S
    while not cache.ready:
        cache.step()
        if cache.exits >= MAX_FAILED_STARTS or time.monotonic() > give_up_at:
            logger.warning("Valkey does not start (see %s). The cache stays in this process.", cache.program.log)
            return False
        time.sleep(POLL_S)
    return True


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()

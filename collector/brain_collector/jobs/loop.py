"""The loop that runs a job periodically, and the handling of a failed run: it is logged and tried again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import asyncpg

from brain_collector.storage.connection import GONE, reason_of

logger: Final = logging.getLogger(__name__)


class Job(Protocol):
    """Periodic work on one connection."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    def interval_s(self) -> float:
        """The time to wait before the next run."""

    async def run(self) -> None:
        """Do the work once. It is never cancelled, and must not raise if the database is unavailable."""


async def every(interval_s: Callable[[], float], work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do the work and wait, repeatedly, until `stop` is set."""
    while not stop.is_set():
        await work()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval_s())


@contextmanager
def log_failures(job: str) -> Iterator[None]:
    """Suppress database errors, so that the job is tried again. The monitor reports a lost database, this the rest."""
    try:
        yield
    except GONE:
        pass
    except asyncpg.PostgresError as error:
        logger.warning("the job %r failed and will be tried again: %s", job, reason_of(error))

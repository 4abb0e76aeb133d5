"""The loop that every job runs in, and what a failed run of it leaves behind: a line in the log, and another try."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import asyncpg

from brain_collector.storage.connection import GONE, reason_of

logger: Final = logging.getLogger(__name__)


class Job(Protocol):
    """Work that is done again and again, on one connection that it is given or owns."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def interval_s(self) -> float:
        """How long to wait before the next run."""

    async def run(self) -> None:
        """Do the work once. It is never cancelled, and does not raise when the database is down."""


async def every(interval_s: Callable[[], float], work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do the work, wait, do it again, until `stop` is set."""
    while not stop.is_set():
        await work()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval_s())


@contextmanager
def log_failures(job: str) -> Iterator[None]:
    """Let a job be tried again later. The monitor reports a lost database; any other error is logged here."""
    try:
        yield
    except GONE:
        pass
    except asyncpg.PostgresError as error:
        logger.warning("the job %r failed and will be tried again: %s", job, reason_of(error))

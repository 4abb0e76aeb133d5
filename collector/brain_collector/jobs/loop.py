"""The loop that runs a job periodically; a failed run is noted and tried again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import asyncpg

from brain_collector.health.job_states import JobStates
from brain_collector.storage.connection import DATABASE_ERRORS, GONE, Overdue, reason_of

TIMED_OUT: Final = (asyncpg.QueryCanceledError, Overdue, TimeoutError)
"""The errors of a run that took too long; the database may serve everything else."""


class Job(Protocol):
    """Periodic work on one connection."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    def interval_s(self) -> float:
        """The time to wait before the next run."""

    async def run(self) -> None:
        """Do the work once. It is never cancelled, and may raise any error."""


async def every(interval_s: Callable[[], float], work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do the work and wait, repeatedly, until `stop` is set."""
    while not stop.is_set():
        await work()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval_s())


async def every_run(job: Job, states: JobStates, stop: asyncio.Event) -> None:
    """Run the job periodically until `stop` is set, and note in `states` how it went."""
    await every(job.interval_s, lambda: attempt(job.name, job.run, states, stop), stop)


async def attempt(name: str, work: Callable[[], Awaitable[None]], states: JobStates, stop: asyncio.Event) -> None:
    """Do the work of a job once, and note in `states` how it went; no error of it ends the collector.

    The monitor reports a lost database; this reports everything else, time-outs included.
    """
    try:
        await work()
    except DATABASE_ERRORS as error:
        is_database_lost = isinstance(error, GONE) and not isinstance(error, TIMED_OUT)
        if not is_database_lost and not stop.is_set():  # at the end, jobs are aborted
            states.failed(name, reason_of(error))
    except Exception as error:  # noqa: BLE001 - logged with its traceback
        states.failed(name, repr(error), unforeseen=error)
    else:
        states.worked(name)

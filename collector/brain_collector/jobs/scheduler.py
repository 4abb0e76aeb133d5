"""The list of jobs, and the database connection that each uses."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from brain_collector.cache import Cache
from brain_collector.health.availability import Availability
from brain_collector.health.canary import Canary
from brain_collector.health.job_states import JobStates
from brain_collector.jobs.canary_check import CanaryCheck
from brain_collector.jobs.epoch_watch import EpochWatch
from brain_collector.jobs.fold import Fold
from brain_collector.jobs.index import Index
from brain_collector.jobs.loop import Job, every_run
from brain_collector.jobs.maintenance import RENUMBER_DEADLINE_S, Maintenance
from brain_collector.jobs.monitor import Monitor
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.jobs.survey import TakeSurvey
from brain_collector.settings import Settings
from brain_collector.storage.connection import Link

GRACE_S: Final = 2.0
"""The statement time-out comes first then: it keeps the connection, and says that a statement took too long."""


class Scheduler:
    """The jobs of one collector. Each job is done by one collector at a time, which locks a row or an advisory lock."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        availability: Availability,
        canary: Canary,
        states: JobStates,
        epoch_watch: EpochWatch,
    ) -> None:
        shared = SharedLink(settings)
        monitor_link = SharedLink(settings, deadline_s=settings.internal_deadline_s)
        index_link = Link(settings, deadline_s=settings.write_deadline_s + GRACE_S)
        renumber_link = Link(settings, deadline_s=RENUMBER_DEADLINE_S)
        self._states = states
        self._links: Final = (shared, monitor_link, index_link, renumber_link)
        self.maintenance: Final = Maintenance(settings, shared, renumber_link, availability, epoch_watch)
        self.monitor: Final = Monitor(monitor_link, cache, availability, epoch_watch)
        self._jobs: Final[tuple[Job, ...]] = (
            Fold(settings, shared),
            Index(index_link, availability),
            self.maintenance,
            CanaryCheck(settings, shared, canary),
            TakeSurvey(shared, availability),
            self.monitor,
        )

    def loops(self, stop: asyncio.Event) -> dict[str, Awaitable[None]]:
        """Return the loop of each job by name; each runs until `stop` is set."""
        return {job.name: every_run(job, self._states, stop) for job in self._jobs}

    def abort(self) -> None:
        """Abort running statements: the next start repeats their work."""
        for link in self._links:
            link.abort()

    async def close(self) -> None:
        """Close the connections."""
        for link in self._links:
            await link.close()

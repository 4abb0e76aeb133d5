"""Adds events to the search index, in steps short enough to delay nothing else."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import asyncpg

from brain_collector.health.availability import Availability
from brain_collector.jobs.loop import TIMED_OUT
from brain_collector.jobs.pace import LEAST, Pace
from brain_collector.storage import search_index
from brain_collector.storage.connection import GONE, Link, reason_of

logger: Final = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
LONG_STEP_S: Final = 0.25
"""A step that takes longer than this is followed by smaller ones."""

Step = Callable[[asyncpg.Connection, int], Awaitable[bool]]


class Index:
    """The job `index`: new events, and those from before the first release with an index."""

    name: Final = "index"

    def __init__(self, link: Link, availability: Availability) -> None:
        self._availability = availability
        self._arrived = _Part(link, search_index.step_arrived, partial(search_index.step_arrived, read=False))
        self._older = _Part(link, search_index.step_older, partial(search_index.step_older, read=False))

    def interval_s(self) -> float:
        """Return the rest after the last step."""
        paces = [part.pace for part in (self._arrived, self._older) if part.pace.is_more]
        return sum(pace.spent_s for pace in paces) if paces else INTERVAL_S

    async def run(self) -> None:
        """Take one step of each kind, unless the schema is missing."""
        if self._availability.schema_problem is None:
            await self._arrived.run()
            await self._older.run()


class _Part:
    """Indexing of one kind of events. An event that fails alone is passed over: searches then look at it."""

    def __init__(self, link: Link, step: Step, pass_over: Step) -> None:
        self._link = link
        self._step = step
        self._pass_over = pass_over
        self._is_next_unindexable = False
        self.pace = Pace(small=search_index.SMALL_IDS, most=search_index.STEP_IDS, long_s=LONG_STEP_S)

    async def run(self) -> None:
        """Take a step."""
        began_s = time.monotonic()
        step = self._pass_over if self._is_next_unindexable else self._step
        try:
            async with self._link.use() as connection:
                is_more = await step(connection, self.pace.size)
        except asyncpg.PostgresError as error:
            if self.pace.size == LEAST and _is_of_the_event(error):
                self._is_next_unindexable = True
                logger.warning("an event cannot be indexed (%s); every search looks at it instead", reason_of(error))
            self.pace.failed()
            raise
        self._is_next_unindexable = False
        self.pace.done(time.monotonic() - began_s, is_more=is_more)


def _is_of_the_event(error: asyncpg.PostgresError) -> bool:
    """Return whether an event alone can cause the error: it cannot make a lock or a server unavailable."""
    if isinstance(error, TIMED_OUT):
        return True
    return not isinstance(error, (*GONE, asyncpg.LockNotAvailableError))

"""Adds new events to the search index, in steps short enough to delay nothing else."""

import time
from typing import Final

from brain_collector.health.availability import Availability
from brain_collector.jobs.loop import log_failures
from brain_collector.storage import search_index
from brain_collector.storage.connection import Link

INTERVAL_S: Final = 1.0
LONG_STEP_S: Final = 0.25
"""A step that takes longer than this is followed by smaller ones."""


class Index:
    """The job `index`. While more steps are due, it rests as long as a step took, so that ingest has priority."""

    name: Final = "index"

    def __init__(self, link: Link, availability: Availability) -> None:
        self._link = link
        self._availability = availability
        self._step_ids = search_index.STEP_IDS
        self._rest_s = INTERVAL_S

    def interval_s(self) -> float:
        """Return the rest after the last step."""
        return self._rest_s

    async def run(self) -> None:
        """Take one step, unless the schema is missing."""
        if self._availability.schema_problem is not None:
            return
        began_s = time.monotonic()
        is_more = False
        with log_failures(self.name):
            async with self._link.use() as connection:
                is_more = await search_index.step(connection, self._step_ids)
        spent_s = time.monotonic() - began_s
        if spent_s > LONG_STEP_S:  # large events: a step that reaches its deadline would never be completed
            self._step_ids = max(search_index.MIN_IDS, self._step_ids // 2)
        elif is_more:
            self._step_ids = min(search_index.STEP_IDS, self._step_ids * 2)
        self._rest_s = spent_s if is_more else INTERVAL_S

"""Measures the progress of background jobs of all collectors, for metrics and health."""

import time
from typing import Final

from brain_collector.counts import journal
from brain_collector.health.availability import Availability, Survey
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.storage import partitions, search_index

INTERVAL_S: Final = 5.0


class TakeSurvey:
    """The job `survey`."""

    name: Final = "survey"

    def __init__(self, link: SharedLink, availability: Availability) -> None:
        self._link = link
        self._availability = availability

    def interval_s(self) -> float:
        """Return the interval, which is fixed."""
        return INTERVAL_S

    async def run(self) -> None:
        """Measure the lag of the fold and of the search index, and the last day that has a partition."""
        async with self._link.use() as connection:
            folded_s_before, journal_rows = await journal.lag(connection)
            index = await search_index.lag(connection)
            ends = await partitions.end(connection)
        self._availability.survey = Survey(
            time.monotonic(), folded_s_before, journal_rows, index.waiting, index.unindexable, ends
        )

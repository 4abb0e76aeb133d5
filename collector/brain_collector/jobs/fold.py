"""Folds the journal of counts, unless another collector does it at the moment."""

import time
from typing import Final

from brain_collector.counts.fold import PORTION_ROWS, fold
from brain_collector.health.own_events import OWN_EVENTS
from brain_collector.jobs.pace import Pace
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.settings import Settings

LONG_PORTION_S: Final = 0.1
"""A portion that takes longer than this is followed by smaller ones: no stream gets past its transaction meanwhile."""

SMALL_ROWS: Final = 500


class Fold:
    """The job `fold`."""

    name: Final = "fold"

    def __init__(self, settings: Settings, link: SharedLink) -> None:
        self._settings = settings
        self._link = link
        self._pace = Pace(small=SMALL_ROWS, most=PORTION_ROWS, long_s=LONG_PORTION_S)

    def interval_s(self) -> float:
        """Return `fold_interval_s`, or a shorter rest while there is more to fold."""
        return min(self._pace.rest_s(self._settings.fold_interval_s), self._settings.fold_interval_s)

    async def run(self) -> None:
        """Fold one portion."""
        rows = self._pace.size
        try:
            async with self._link.use() as connection:
                began_s = time.monotonic()
                folded = await fold(
                    connection,
                    max_types=self._settings.max_types_per_day,
                    always_named=OWN_EVENTS,
                    rows=rows,
                )
                spent_s = time.monotonic() - began_s
        except BaseException:
            self._pace.failed()
            raise
        self._pace.done(spent_s, is_more=folded == rows)

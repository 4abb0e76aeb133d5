"""Folds the journal of counts, unless another collector does it at the moment."""

from typing import Final

from brain_collector.counts import journal
from brain_collector.jobs.loop import log_failures
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.settings import Settings


class Fold:
    """The job `fold`."""

    name: Final = "fold"

    def __init__(self, settings: Settings, link: SharedLink) -> None:
        self._settings = settings
        self._link = link

    def interval_s(self) -> float:
        """Return `fold_interval_s`."""
        return self._settings.fold_interval_s

    async def run(self) -> None:
        """Fold the journal."""
        with log_failures(self.name):
            async with self._link.use() as connection:
                await journal.fold(connection)

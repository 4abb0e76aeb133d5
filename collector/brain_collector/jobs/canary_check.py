"""Reads back the collector's own health checks (`health.canary`)."""

from typing import Final

from brain_collector.health.canary import Canary
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.settings import Settings


class CanaryCheck:
    """The job `canary`."""

    name: Final = "canary"

    def __init__(self, settings: Settings, link: SharedLink, canary: Canary) -> None:
        self._settings = settings
        self._link = link
        self._canary = canary

    def interval_s(self) -> float:
        """Return `canary_interval_s`."""
        return self._settings.canary_interval_s

    async def run(self) -> None:
        """Read back this collector's health checks; those that cannot be read now are read the next time."""
        async with self._link.use() as connection:
            await self._canary.check(connection)

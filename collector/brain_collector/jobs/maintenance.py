"""Keeps the database ready (schema, ids after a restore, partitions), and deletes expired rows."""

import logging
from typing import Final

import asyncpg

from brain_collector.health.availability import Availability
from brain_collector.ingest import rejected_lines
from brain_collector.jobs import idempotency_keys
from brain_collector.jobs.epoch_watch import EpochWatch
from brain_collector.jobs.shared_link import SharedLink
from brain_collector.settings import Settings
from brain_collector.storage import partitions, pooler, renumber, schema_version
from brain_collector.storage.connection import DATABASE_ERRORS, Link, reason_of

logger: Final = logging.getLogger(__name__)

RETRY_INTERVAL_S: Final = 1.0
"""While the schema is missing, or the database cannot be reached."""
RENUMBER_DEADLINE_S: Final = 1_800.0
"""Two weeks of batches may be many, and are renumbered in one transaction."""


class Maintenance:
    """The job `maintain`. Until its first run succeeds, the collector is not ready."""

    name: Final = "maintain"

    def __init__(
        self,
        settings: Settings,
        link: SharedLink,
        renumber_link: Link,
        availability: Availability,
        epoch_watch: EpochWatch,
    ) -> None:
        self._settings = settings
        self._link = link
        self._renumber_link = renumber_link
        self._availability = availability
        self._epoch_watch = epoch_watch
        self._has_warned = False

    def interval_s(self) -> float:
        """Return `maintain_interval_s`, or a short interval while the schema is not usable."""
        return RETRY_INTERVAL_S if self._availability.schema_problem else self._settings.maintain_interval_s

    async def run(self) -> None:
        """Take every step, in this order; note what keeps the collector from serving.

        The steps after the renumbering share one use of the connection, and so its deadline: the rest of a backlog is
        left to the next run.
        """
        try:
            async with self._link.use() as connection:
                await self._check_timeouts(connection)
                problem = await schema_version.schema_problem(connection)
                is_restored = problem is None and await renumber.is_restored(connection)
            if is_restored:
                await self._renumber()
            if problem is None:
                async with self._link.use() as connection:
                    if self._availability.schema_problem is not None:  # then the monitor does not check it yet
                        await self._epoch_watch.check(connection)
                    await self._make_partitions(connection)
                    await self._expire_rejected_lines(connection)
                    await self._forget_idempotency_keys(connection)
        except DATABASE_ERRORS as error:
            problem = f"the database could not be prepared ({reason_of(error)})"
        self._availability.schema_problem = problem

    async def _check_timeouts(self, connection: asyncpg.Connection) -> None:
        """Warn once if a pooler drops the time-outs of the sessions and the role does not have them either."""
        if self._has_warned or (missing := await pooler.missing_timeouts(connection, self._settings)) is None:
            return
        self._has_warned = True
        logger.warning(
            "The connection pooler drops the time-outs of statements, so one that hangs blocks others without limit: "
            "run %s, then RECONNECT on the pooler",
            missing,
        )

    async def _renumber(self) -> None:
        try:
            async with self._renumber_link.use() as connection:
                await renumber.renumber(connection)
        finally:
            await self._renumber_link.close()

    async def _make_partitions(self, connection: asyncpg.Connection) -> None:
        await partitions.ensure(connection, self._settings)

    async def _expire_rejected_lines(self, connection: asyncpg.Connection) -> None:
        await rejected_lines.expire(connection, self._settings)

    async def _forget_idempotency_keys(self, connection: asyncpg.Connection) -> None:
        while await idempotency_keys.forget_some(connection, self._settings.idempotency_key_life_days):
            pass

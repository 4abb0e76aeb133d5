"""Notices that the database is another one than before, and discards the state that belonged to the last one."""

from collections.abc import Callable, Iterable
from typing import Final

import asyncpg

from brain_collector.cache import Cache, CacheScope
from brain_collector.health.own_events import OwnEvents
from brain_collector.metrics import EPOCH_CHANGES, Metrics
from brain_collector.storage import epochs
from brain_collector.storage.hash_keys import database_id

FAILOVER: Final = "A standby was promoted: it is the database now"
RESTORE: Final = "The database is another one than before: it was restored or copied"


class EpochWatch:
    """Compares database and epoch with those of the last check. `abandon` closes connections to another server.

    The first check tells the cache which database it belongs to.
    A server that is frozen or cut off breaks no connection, so each would be noticed only by its deadline.
    """

    def __init__(
        self, cache: Cache, own_events: OwnEvents, metrics: Metrics, abandon: Iterable[Callable[[], None]]
    ) -> None:
        self._cache = cache
        self._own_events = own_events
        self._metrics = metrics
        self._abandon = tuple(abandon)
        self._server: tuple[str, int] | None = None

    async def check(self, connection: asyncpg.Connection) -> None:
        """Check the epoch of the server behind a connection; record a change that no collector has recorded yet."""
        before, server = self._server, (await database_id(connection), await epochs.ensure(connection))
        is_changed = before is not None and before != server
        if before and is_changed and not await _is_restart(connection, before, server):
            self._metrics.add(EPOCH_CHANGES)
            for abandon in self._abandon:
                abandon()
        self._cache.use_database(server[0])
        if is_changed:
            for scope in CacheScope:
                await self._cache.invalidate(scope)
        self._server = server
        for change in await epochs.announce(connection):
            self._own_events.log(
                "database_failed_over",
                "warning",
                FAILOVER if change.is_failover else RESTORE,
                epoch=change.epoch,
                identifier=str(change.identifier),
                timeline=change.timeline,
                database_oid=change.database_oid,
                identifier_before=str(change.identifier_before),
                timeline_before=change.timeline_before,
                database_oid_before=change.database_oid_before,
            )


async def _is_restart(connection: asyncpg.Connection, before: tuple[str, int], after: tuple[str, int]) -> bool:
    return before[0] == after[0] and await epochs.is_restart(connection, before[1], after[1])

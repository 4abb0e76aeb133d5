"""The canary: reads acknowledged own health checks back, and reports those that are missing or stored twice.

It checks only events whose commit was acknowledged to this process, so that neither a restart nor another collector
can cause a false alarm. An event that a client deleted, on any collector, is distinguished from a lost one by the
counts of its hour: a deletion subtracts from them in its own transaction, a loss does not.
"""

from collections import Counter
from typing import Final

import asyncpg

from brain_collector.counts.journal import hour
from brain_collector.health.own_events import CANARY, SOURCE, Acknowledged, OwnEvents
from brain_collector.metrics import CANARY_CHECKS, CANARY_EVENTS, Metrics

# A copy equals the event in everything except its id: two collectors do not log the same in the same microsecond. No
# client can send a copy to cause an alarm: its events do not get the source of own events (`decode.OWN_SOURCE`).
_FIND: Final = """
    SELECT own.id,
        EXISTS (SELECT FROM system_events e WHERE e.id = own.id AND e."timestamp" = own.ts) AS found,
        EXISTS (
            SELECT FROM system_events e
            WHERE e."timestamp" = own.ts AND e.event_type = $3 AND e.source = $4 AND e.message = own.message
                AND e.id <> own.id
        ) AS doubled
    FROM unnest($1::bigint[], $2::timestamptz[], $5::text[]) AS own (id, ts, message)
"""

_DRIFT: Final = """
    SELECT (
        SELECT coalesce(sum(n), 0)::bigint FROM (
            SELECT n FROM event_counts WHERE grain = 'hour' AND bucket = $1 AND event_type = $2
            UNION ALL
            SELECT n FROM event_deltas WHERE bucket = $1 AND event_type = $2
        ) AS counted
    ) - (
        SELECT count(*) FROM system_events
        WHERE event_type = $2 AND "timestamp" >= $1 AND "timestamp" < $1 + interval '1 hour'
    )
"""
"""Counted minus stored events of an hour and a type; one statement, hence one snapshot."""


class Canary:
    """The check, which a background job runs."""

    def __init__(self, own_events: OwnEvents, metrics: Metrics) -> None:
        self._own_events = own_events
        self._metrics = metrics
        self._has_checked = False

    async def check(self, connection: asyncpg.Connection) -> None:
        """Check each health check acknowledged since the last call, once. If there is none, record one."""
        acknowledged = self._own_events.acknowledged
        batch = list(acknowledged)
        rows = await connection.fetch(_FIND, *_arguments(batch)) if batch else []
        missing = {row["id"] for row in rows if not row["found"]}
        doubled = {row["id"] for row in rows if row["doubled"]}
        lost = await self._lost(connection, [own for own in batch if own.id in missing])
        for own in batch:  # not earlier: after an error above they are checked by the next call
            acknowledged.remove(own)
        self._report(len(batch), missing, doubled, lost)
        if not batch and self._has_checked:
            message = "GET /health was not requested for a while; the collector recorded this check itself"
            self._own_events.log("health_check", "info", message, count=0)
        self._has_checked = True

    async def _lost(self, connection: asyncpg.Connection, missing: list[Acknowledged]) -> int:
        """Return how many of the missing events were not deleted."""
        hours = Counter(hour(own.event.timestamp) for own in missing if own.event.timestamp is not None)
        return sum([min(n, max(0, await connection.fetchval(_DRIFT, start, CANARY))) for start, n in hours.items()])

    def _report(self, n: int, missing: set[int], doubled: set[int], lost: int) -> None:
        self._metrics.add(CANARY_CHECKS)
        results = {
            "found": n - len(missing),
            "acked_not_found": lost,
            "deleted": len(missing) - lost,
            "doubled": len(doubled),
        }
        for result, count in results.items():
            self._metrics.add(CANARY_EVENTS, result, n=count)
        if lost or doubled:
            self._own_events.log(
                "canary_failed",
                "critical",
                f"Of {n} acknowledged own events, {lost} are missing and {len(doubled)} are stored twice",
                acked_not_found=lost,
                doubled=len(doubled),
                ids=sorted(missing | doubled)[:100],
            )


def _arguments(batch: list[Acknowledged]) -> tuple[object, ...]:
    return (
        [own.id for own in batch],
        [own.event.timestamp for own in batch],
        CANARY,
        SOURCE,
        [own.event.message for own in batch],
    )

"""`GET /metrics`: counters, and gauges that are read from the parts now. No scrape queries the database."""

import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from brain_collector import VERSION, metrics
from brain_collector.api.operation import Operation, ResponseSpec
from brain_collector.api.resources import Resources, resources_of
from brain_collector.metrics import Reading
from brain_collector.shares import OBSTACLES

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


async def scrape(request: Request) -> Response:
    """Return every metric."""
    resources = resources_of(request)
    return Response(resources.metrics.text(_readings(resources)), headers={"Content-Type": TEXT})


def _readings(resources: Resources) -> Iterator[Reading]:
    availability = resources.availability
    yield Reading(metrics.PENDING_BYTES, resources.budget.reserved)
    yield Reading(metrics.PENDING_BYTES_LIMIT, resources.budget.max_bytes)
    yield Reading(metrics.WAITING_REQUESTS, resources.budget.waiting)
    yield Reading(metrics.ANSWER_BYTES, resources.answers.reserved)
    yield Reading(metrics.ANSWER_BYTES_LIMIT, resources.answers.max_bytes)
    yield Reading(metrics.WAITING_READS, resources.answers.waiting)
    yield from _refusals(resources)
    yield Reading(metrics.WRITER_QUEUE, resources.writer.waiting)
    yield Reading(metrics.CACHE_UP, availability.cache == "up")
    yield Reading(metrics.DATABASE_UP, availability.database == "up")
    yield Reading(metrics.READ_CONNECTIONS, resources.store.slots.amount.taken)
    yield Reading(metrics.READ_CONNECTIONS_LIMIT, resources.settings.read_connections)
    for engine in availability.engines:
        yield Reading(metrics.ENGINE_UP, engine.running, (engine.name,))
        yield Reading(metrics.ENGINE_RESTARTS, engine.restarts, (engine.name,))
    if availability.survey is not None:
        yield Reading(metrics.FOLD_LAG, availability.survey.fold_lag_s)
        yield Reading(metrics.JOURNAL_ROWS, availability.survey.journal_rows)
        yield Reading(metrics.UNINDEXED, availability.survey.unindexed_events)
        yield Reading(metrics.UNINDEXABLE, availability.survey.unindexable_events)
        yield Reading(metrics.PARTITION_AHEAD, availability.survey.partition_ahead_s)
    if availability.engines and resources.settings.data_dir is not None:
        with suppress(OSError):
            disk = shutil.disk_usage(resources.settings.data_dir)
            yield Reading(metrics.DATA_FREE, disk.free)
            yield Reading(metrics.DATA_SIZE, disk.total)
    yield Reading(metrics.OWN_EVENTS_WAITING, resources.own_events.waiting)
    yield Reading(metrics.BUILD, 1, (VERSION, platform.python_version()))


def _refusals(resources: Resources) -> Iterator[Reading]:
    amounts = {
        "pending_bytes": resources.budget.memory,
        "waiting_requests": resources.budget.places,
        "read_connections": resources.store.slots.amount,
        "exports": resources.exports.slots.amount,
        "streams": resources.tail.slots.amount,
    }
    for maximum, amount in amounts.items():
        for reason in OBSTACLES:
            yield Reading(metrics.SHARES_REFUSED, amount.refused[reason], (maximum, reason))


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/metrics",
        endpoint=scrape,
        scope="read",
        summary="Metrics in the Prometheus text format",
        description="The manual lists the metrics: /manual/reference/metrics.html.",
        tag="health",
        responses={200: ResponseSpec(description="The metrics.", type=str, media_type="text/plain")},
    ),
)

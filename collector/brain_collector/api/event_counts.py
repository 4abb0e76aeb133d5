"""`GET /api/events/stats`: exact counts of all events, or of those that match a filter."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Operation, ResponseSpec
from brain_collector.api.parameters import STATS_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.cache import CacheScope
from brain_collector.http.answer_budget import reserve
from brain_collector.read.statistics import TYPE_BYTES, statistics
from brain_collector.schema import Stats

_encode: Final = msgspec.json.encode


async def stats(request: Request) -> Response:
    """Return the exact counts."""
    resources = resources_of(request)
    parameters.refuse_unknown(
        request,
        STATS_PARAMETERS,
        repeatable=["event_type"],
        reason=": counts can be filtered by type, severity and time only",
    )
    filter = parameters.event_filter(request, resources.settings)

    async def fill() -> bytes:
        max_types = resources.settings.max_stats_types
        await reserve(request, max_types * TYPE_BYTES)
        return _encode(await statistics(resources.store, filter, max_types))

    key = f"stats:{_encode(filter).decode()}"
    counts = await resources.cache.get_or_fill(CacheScope.LIST, key, resources.settings.stats_ttl_s, fill)
    return Response(counts, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/stats",
        endpoint=stats,
        summary="Count events",
        description="Exact counts by severity and by type, the most frequent types first: of all events, or of some "
        "types, severities and times.",
        tag="events",
        scope="read",
        parameters=STATS_PARAMETERS,
        responses={200: ResponseSpec(description="The counts.", type=Stats)},
        errors=(422,),
    ),
)

"""`GET /api/events/stats`: exact counts, of all events or of some."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Answer, Operation
from brain_collector.api.parameters import STATS_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.cache import CacheScope
from brain_collector.schema import Stats

_encode: Final = msgspec.json.encode


async def stats(request: Request) -> Response:
    """Return exact counts, of all events or of some."""
    resources = resources_of(request)
    parameters.refuse_unknown(
        request,
        STATS_PARAMETERS,
        repeatable=["event_type"],
        reason=": events are counted by type, severity and time, and a list can be narrowed by more",
    )
    wanted = parameters.event_filter(request, resources.settings)

    async def fill() -> bytes:
        return _encode(await resources.store.statistics(wanted))

    key = f"stats:{_encode(wanted).decode()}"
    counts = await resources.cache.get_or_fill(CacheScope.LIST, key, resources.settings.stats_ttl_s, fill)
    return Response(counts, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/stats",
        endpoint=stats,
        summary="Count events",
        description="Exact, by severity and by type; all of them, or those of some types, severities, and times.",
        tag="events",
        scope="read",
        parameters=STATS_PARAMETERS,
        answers={200: Answer(description="The counts.", type=Stats)},
        errors=(422,),
    ),
)

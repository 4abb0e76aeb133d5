"""Rejections: the lines that were refused, to look at and to purge."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, Answer, Operation, Parameter
from brain_collector.api.resources import resources_of
from brain_collector.query import cursor
from brain_collector.read import rejected_lines
from brain_collector.read.rejected_lines import RejectionFilter
from brain_collector.schema import Purged, Rejection

PATH: Final = "/api/rejections"
DEFAULT_LIMIT: Final = 100


async def list_rejections(request: Request) -> Response:
    """Return a page of refused lines, newest first; the next one stands in the Link header."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _LIST_PARAMETERS)
    wanted = RejectionFilter(parameters.text(request, "code"), *parameters.time_range(request))
    most = resources.settings.max_list_limit
    limit = parameters.whole_number(request, "limit", default=min(DEFAULT_LIMIT, most), least=1, most=most)
    after = cursor.decode(text, wanted) if (text := request.query_params.get("cursor")) else None
    found = await rejected_lines.page(resources.store, wanted, limit=limit + 1, after=after)
    shown = found[:limit]
    token = ""
    if len(found) > limit:
        token = cursor.encode(cursor.Position(shown[-1].received_at, shown[-1].id), wanted)
    return Response(msgspec.json.encode(shown), headers=parameters.next_page(request, token), media_type=JSON)


async def purge(request: Request) -> Response:
    """Delete refused lines; answer how many."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _PURGE_PARAMETERS)
    wanted = RejectionFilter(parameters.text(request, "code"), until=parameters.moment(request, "before"))
    return Response(msgspec.json.encode(Purged(await rejected_lines.purge(resources.store, wanted))), media_type=JSON)


_CODE: Final = Parameter(name="code", type=str, description="Only lines refused with this code.")
_LIST_PARAMETERS: Final = (
    _CODE,
    Parameter(name="from", type=datetime, description="Only lines received from this moment on (RFC 3339)."),
    Parameter(name="to", type=datetime, description="Only lines received before this moment (RFC 3339)."),
    Parameter(name="limit", type=Annotated[int, Meta(ge=1)], description=f"Page size; {DEFAULT_LIMIT} by default."),
    Parameter(name="cursor", type=str, description="Where the page before ended: take it from its Link header."),
)
_PURGE_PARAMETERS: Final = (
    _CODE,
    Parameter(name="before", type=datetime, description="Only lines received before this moment (RFC 3339)."),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_rejections,
        summary="List refused lines",
        description="Newest first, as they were sent. Follow the Link header (`rel=next`) for the next page.",
        tag="rejections",
        scope="admin",
        parameters=_LIST_PARAMETERS,
        answers={200: Answer(description="A page.", type=list[Rejection], headers={"Link": "The next page, if any."})},
        errors=(422,),
    ),
    Operation(
        method="DELETE",
        path=PATH,
        endpoint=purge,
        summary="Purge refused lines",
        description="All of them, or those that the parameters name.",
        tag="rejections",
        scope="admin",
        parameters=_PURGE_PARAMETERS,
        answers={200: Answer(description="They are gone.", type=Purged)},
        errors=(422,),
    ),
)

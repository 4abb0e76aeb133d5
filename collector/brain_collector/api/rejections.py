"""`/api/rejections`: list and purge the lines that were rejected."""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import paging, parameters
from brain_collector.api.operation import JSON, Operation, Parameter, ResponseSpec
from brain_collector.api.resources import resources_of
from brain_collector.http.answer_budget import reserve
from brain_collector.query import cursor
from brain_collector.read import rejected_lines
from brain_collector.read.rejected_lines import RejectionFilter
from brain_collector.schema import Purged, Rejection

PATH: Final = "/api/rejections"


async def list_rejections(request: Request) -> Response:
    """Return a page of rejected lines, newest first; the Link header has the next one."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _LIST_PARAMETERS)
    filter = RejectionFilter(parameters.text(request, "code"), *parameters.time_range(request))
    limit = paging.page_limit(request, resources.settings)
    after = paging.position_of(request, filter, resources.settings)
    max_bytes = resources.settings.max_page_bytes
    await reserve(request, max_bytes)
    rows = await rejected_lines.page(resources.store, filter, limit=limit + 1, max_bytes=max_bytes, after=after)
    n, parts = paging.encode_within(map(rejected_lines.rejection, rows[:limit]), max_bytes)
    token = cursor.encode(rejected_lines.position_of(rows[n - 1]), filter) if n < len(rows) else ""
    return Response(b"".join(parts), headers=paging.link_header(request, token), media_type=JSON)


async def purge(request: Request) -> Response:
    """Delete rejected lines; return how many."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _PURGE_PARAMETERS)
    filter = RejectionFilter(parameters.text(request, "code"), until=parameters.moment(request, "before"))
    return Response(msgspec.json.encode(Purged(await rejected_lines.purge(resources.store, filter))), media_type=JSON)


_CODE: Final = Parameter(name="code", type=str, description="Only lines rejected with this code.")
_LIST_PARAMETERS: Final = (
    _CODE,
    Parameter(name="from", type=parameters.Moment, description="Only lines received at or after this time (RFC 3339)."),
    Parameter(name="to", type=parameters.Moment, description="Only lines received before this time (RFC 3339)."),
    *paging.PAGE_PARAMETERS,
)
_PURGE_PARAMETERS: Final = (
    _CODE,
    Parameter(name="before", type=parameters.Moment, description="Only lines received before this time (RFC 3339)."),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_rejections,
        summary="List rejected lines",
        description="Newest first, as they were sent. Follow the Link header (`rel=next`) for the next page.",
        tag="rejections",
        scope="admin",
        parameters=_LIST_PARAMETERS,
        responses={200: ResponseSpec(description="A page.", type=list[Rejection], headers=paging.LINK_HEADER)},
        errors=(422,),
    ),
    Operation(
        method="DELETE",
        path=PATH,
        endpoint=purge,
        summary="Purge rejected lines",
        description="Deletes the rejected lines that match the parameters; without parameters, all of them.",
        tag="rejections",
        scope="admin",
        parameters=_PURGE_PARAMETERS,
        responses={200: ResponseSpec(description="The lines are deleted.", type=Purged)},
        errors=(422,),
    ),
)

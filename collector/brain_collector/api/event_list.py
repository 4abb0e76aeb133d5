"""`GET /api/events`: pages of a filtered list, newest first."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import paging, parameters
from brain_collector.api.operation import JSON, PATH, Operation, Parameter, ResponseSpec
from brain_collector.api.parameters import ID_PATTERN, STATS_PARAMETERS, TEXT_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.cache import CacheScope
from brain_collector.errors import ParameterInvalid
from brain_collector.http.answer_budget import reserve
from brain_collector.query import cursor
from brain_collector.query.filter import Filter
from brain_collector.read import pages
from brain_collector.schema import Event

_encode: Final = msgspec.json.encode


async def list_events(request: Request) -> Response:
    """Return a page of events, newest first; the Link header has the next one."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    filter = parameters.event_filter(request, resources.settings)
    page = _Page(
        limit=paging.page_limit(request, resources.settings),
        offset=parameters.whole_number(
            request,
            "offset",
            default=0,
            minimum=0,
            maximum=resources.settings.max_list_offset,
            remedy="; to go further, follow the Link header",
        ),
        after=paging.position_of(request, filter, resources.settings),
    )
    if filter.words and page.offset:
        raise ParameterInvalid("offset cannot be used with `q`; follow the Link header")
    key = _encode([filter, page]).decode()
    cached = await resources.cache.get_or_fill(
        CacheScope.LIST, f"list:{key}", resources.settings.list_ttl_s, lambda: _fill(request, filter, page)
    )
    end = cached.index(b"\n")
    return Response(
        memoryview(cached)[end + 1 :],
        headers=paging.link_header(request, cached[:end].decode()),
        media_type=JSON,
    )


class _Page(msgspec.Struct, frozen=True):
    limit: int
    offset: int
    after: cursor.Position | None


async def _fill(request: Request, filter: Filter, page: _Page) -> bytes:
    """Return the next page's cursor (empty on the last page), a newline, and this page as JSON."""
    token, page_parts = await _read(request, filter, page)
    return b"".join([token.encode(), b"\n", *page_parts])


async def _read(request: Request, filter: Filter, page: _Page) -> tuple[str, list[bytes]]:
    """Return the next page's cursor, and this page in parts, without its events: both together take memory twice."""
    resources = resources_of(request)
    max_bytes = resources.settings.max_page_bytes
    await reserve(request, min(max_bytes, page.limit * resources.settings.max_event_bytes))
    events, after = await pages.page(
        resources.store, filter, limit=page.limit, max_bytes=max_bytes, offset=page.offset, after=page.after
    )
    n, parts = paging.encode_within(events, max_bytes)  # matches and escapes may make them larger
    if n < len(events):
        after = cursor.position_of(events[n - 1])
    return cursor.encode(after, filter) if after else "", parts


_PARAMETERS: Final = (
    *STATS_PARAMETERS,
    *TEXT_PARAMETERS,
    Parameter(
        name="id",
        type=Annotated[str, Meta(pattern=f"^{ID_PATTERN}(,{ID_PATTERN})*$")],
        description="Only events with these ids, separated by commas.",
    ),
    Parameter(
        name="offset",
        type=Annotated[int, Meta(ge=0)],
        maximum="max_list_offset",
        description="Number of events to skip; for more than a few pages, use the cursor.",
    ),
    *paging.PAGE_PARAMETERS,
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_events,
        summary="List events",
        description="Newest first. Follow the Link header (`rel=next`) for the next page. Parameters that begin with "
        "`details.` filter by the details: `details.user.id=42` matches events whose value at that path of keys and "
        "array indexes is 42, compared as text. With `q`, each event has `matches`. Only a page without a Link header "
        "is the last: the size of a page is limited, so one of large events has fewer than `limit`; and so is the time "
        "of a search, so a page with `q` may even be empty.",
        tag="events",
        scope="read",
        parameters=_PARAMETERS,
        responses={200: ResponseSpec(description="A page.", type=list[Event], headers=paging.LINK_HEADER)},
        errors=(422,),
    ),
)

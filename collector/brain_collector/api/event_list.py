"""`GET /api/events`: pages of a filtered list, newest first."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Answer, Operation, Parameter
from brain_collector.api.parameters import STATS_PARAMETERS, TEXT_PARAMETERS
from brain_collector.api.resources import Resources, resources_of
from brain_collector.cache import CacheScope
from brain_collector.errors import ParameterInvalid
from brain_collector.query import cursor
from brain_collector.query.filter import Filter
from brain_collector.read import pages
from brain_collector.schema import Event

DEFAULT_LIMIT: Final = 100

_encode: Final = msgspec.json.encode


async def list_events(request: Request) -> Response:
    """Return a page of events, newest first; the next one is in the Link header."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _LIST_PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    wanted = parameters.event_filter(request, resources.settings)
    page = _Page(
        limit=parameters.whole_number(
            request,
            "limit",
            default=min(DEFAULT_LIMIT, resources.settings.max_list_limit),
            least=1,
            most=resources.settings.max_list_limit,
        ),
        offset=parameters.whole_number(
            request,
            "offset",
            default=0,
            least=0,
            most=resources.settings.max_list_offset,
            remedy="; further down, follow the Link header",
        ),
        after=cursor.decode(text, wanted) if (text := request.query_params.get("cursor")) else None,
    )
    if wanted.words and page.offset:
        raise ParameterInvalid("offset cannot be given with `q`; follow the Link header")
    key = _encode([wanted, page]).decode()
    cached = await resources.cache.get_or_fill(
        CacheScope.LIST, f"list:{key}", resources.settings.list_ttl_s, lambda: _fill_page(resources, wanted, page)
    )
    token, _, body = cached.partition(b"\n")
    return Response(body, headers=parameters.next_page(request, token.decode()), media_type=JSON)


class _Page(msgspec.Struct, frozen=True):
    limit: int
    offset: int
    after: cursor.Position | None


async def _fill_page(resources: Resources, wanted: Filter, page: _Page) -> bytes:
    """Return the next page's cursor (empty on the last one), a newline, and this page's JSON."""
    found = await pages.page(resources.store, wanted, limit=page.limit, offset=page.offset, after=page.after)
    token = cursor.encode(found.after, wanted) if found.after else ""
    return token.encode() + b"\n" + _encode(found.events)


_LIST_PARAMETERS: Final = (
    *STATS_PARAMETERS,
    *TEXT_PARAMETERS,
    Parameter(
        name="id",
        type=Annotated[str, Meta(pattern=r"^[0-9]{1,19}(,[0-9]{1,19})*$")],
        description="Only events of these ids, with commas between.",
    ),
    Parameter(name="limit", type=Annotated[int, Meta(ge=1)], description=f"Page size; {DEFAULT_LIMIT} by default."),
    Parameter(name="offset", type=Annotated[int, Meta(ge=0)], description="Events to skip; the cursor is better."),
    Parameter(name="cursor", type=str, description="Where the page before ended: take it from its Link header."),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_events,
        summary="List events",
        description="Newest first. Follow the Link header (`rel=next`) for the next page. Events can be narrowed "
        "by their details, too: `details.user.id=42` wants the value at a path of keys and array indexes, as text, to "
        "be 42. With `q`, each event has `matches`, and a page can be short, even empty, although there is a next one: "
        "the time of a search is bounded.",
        tag="events",
        scope="read",
        parameters=_LIST_PARAMETERS,
        answers={200: Answer(description="A page.", type=list[Event], headers={"Link": "The next page, if any."})},
        errors=(422,),
    ),
)

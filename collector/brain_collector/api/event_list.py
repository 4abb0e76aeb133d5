"""Many events at once: pages of a filtered list, and counts."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Answer, Operation, Parameter
from brain_collector.api.resources import Resources, resources_of
from brain_collector.cache import CacheScope
from brain_collector.errors import ParameterInvalid
from brain_collector.query import cursor, search_terms
from brain_collector.query.filter import Filter
from brain_collector.read import pages
from brain_collector.schema import Event, Severity, Stats

DEFAULT_LIMIT: Final = 100

_encode: Final = msgspec.json.encode


async def list_events(request: Request) -> Response:
    """Return a page of events, newest first; the next one stands in the Link header."""
    resources = resources_of(request)
    parameters.only(request, _names(_LIST_PARAMETERS), prefix=parameters.DETAILS, repeatable=["event_type"])
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


async def stats(request: Request) -> Response:
    """Return exact counts, of all events or of some."""
    resources = resources_of(request)
    parameters.only(
        request,
        _names(_STATS_PARAMETERS),
        repeatable=["event_type"],
        why=": events are counted by type, severity and time, and a list can be narrowed by more",
    )
    wanted = parameters.event_filter(request, resources.settings)

    async def fill() -> bytes:
        return _encode(await resources.store.statistics(wanted))

    key = f"stats:{_encode(wanted).decode()}"
    counts = await resources.cache.get_or_fill(CacheScope.LIST, key, resources.settings.stats_ttl_s, fill)
    return Response(counts, media_type=JSON)


def _names(parameters: Iterable[Parameter]) -> list[str]:
    return [parameter.name for parameter in parameters]


_KIND_PARAMETERS: Final = (
    Parameter(name="event_type", type=list[str], description="Only events of this type; repeat it for several."),
    Parameter(name="severity", type=Severity, description="Only events of this severity."),
    Parameter(name="severity_min", type=Severity, description="Only events of this severity or a higher one."),
)
_MORE_PARAMETERS: Final = (
    Parameter(name="source", type=str, description="Only events of this source."),
    Parameter(
        name="q",
        type=Annotated[str, Meta(min_length=1, max_length=search_terms.MAX_CHARS)],
        description="Only events that have these words in their type, message, source or the texts of their details: "
        '`timeout "connection refused" -retry`, `this or that`. A word is letters and digits, in any case.',
    ),
)
FILTER_PARAMETERS: Final = (*_KIND_PARAMETERS, *_MORE_PARAMETERS)
"""What narrows events as they arrive."""

RANGE_PARAMETERS: Final = (
    Parameter(name="from", type=datetime, description="Only events from this moment on (RFC 3339)."),
    Parameter(name="to", type=datetime, description="Only events before this moment (RFC 3339)."),
)
_STATS_PARAMETERS: Final = (*_KIND_PARAMETERS, *RANGE_PARAMETERS)
_LIST_PARAMETERS: Final = (
    *_STATS_PARAMETERS,
    *_MORE_PARAMETERS,
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
    Operation(
        method="GET",
        path=f"{PATH}/stats",
        endpoint=stats,
        summary="Count events",
        description="Exact, by severity and by type; all of them, or those of some types, severities, and times.",
        tag="events",
        scope="read",
        parameters=_STATS_PARAMETERS,
        answers={200: Answer(description="The counts.", type=Stats)},
        errors=(422,),
    ),
)

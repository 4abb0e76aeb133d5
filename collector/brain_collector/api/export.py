"""Export: all events of a filter as one document, streamed; it can be gone on with where it ended."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from brain_collector.access.guard import refuse_if_revoked
from brain_collector.api import parameters
from brain_collector.api.operation import PATH, Answer, Operation, Parameter
from brain_collector.api.parameters import FILTER_PARAMETERS, RANGE_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.errors import ParameterInvalid, Problem
from brain_collector.http.body import accepts_gzip
from brain_collector.http.draining import is_draining
from brain_collector.query.cursor import Position
from brain_collector.read import export
from brain_collector.read.export import Format
from brain_collector.schema import Event

MEDIA_TYPES: Final[dict[Format, str]] = {
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
}
GZIP_LEVEL: Final = 6
_Id = Annotated[int, Meta(ge=1, le=parameters.MAX_ID)]
_GZIP: Final = 16 + zlib.MAX_WBITS

logger: Final = logging.getLogger(__name__)


async def export_events(request: Request) -> Response:
    """Send events, newest first, until there are no more or `limit` of them."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    wanted = parameters.event_filter(request, resources.settings)
    most = resources.settings.max_export_events
    limit = parameters.whole_number(request, "limit", default=most, least=1, most=most, remedy="; go on with `after`")
    form: Format = parameters.choice(request, "format", Format, default="ndjson")
    after = _after(request)
    headers = {"Content-Disposition": f'attachment; filename="events.{form}"', "Vary": "Accept-Encoding"}
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPES[form], headers=headers)
    with ExitStack() as stack:
        stack.enter_context(resources.exports.one())
        pages = resources.exports.pages(wanted, limit, after)
        first = await anext(pages)  # what is wrong shows here, where it can be answered
        ends = stack.pop_all()
    content = _document(request, pages, first, form)
    if accepts_gzip(request):
        content = _gzipped(content)
        headers["Content-Encoding"] = "gzip"
    return _Streamed(content, ends, media_type=MEDIA_TYPES[form], headers=headers)


async def _document(
    request: Request, pages: AsyncIterator[list[Event]], first: list[Event], form: Format
) -> AsyncIterator[bytes]:
    yield export.lines(first, form, first=True)
    async for page in pages:
        if is_draining(request):
            raise _Broken("the collector stops")
        refuse_if_revoked(request)
        yield export.lines(page, form, first=False)
    yield export.end(form)


async def _gzipped(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Compress in a thread: it takes longer than anything else here."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=_GZIP)
    async for chunk in content:
        yield await asyncio.to_thread(packer.compress, chunk)
    yield packer.flush()


class _Broken(Exception):  # noqa: N818 - an outcome
    """It cannot go on."""


class _Streamed(StreamingResponse):
    """A stream that breaks without its end, so that the client knows; else half an export would pass for a whole."""

    def __init__(self, content: AsyncIterator[bytes], ends: ExitStack, **options: Any) -> None:
        super().__init__(content, **options)
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._ends:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (Problem, _Broken) as error:
            logger.warning("an export was broken off: %s", error)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _after(request: Request) -> Position | None:
    """Return the position that `after` names."""
    given = request.query_params.get("after")
    if given is None:
        return None
    moment, _, id = given.partition("~")
    try:
        return Position(parameters.as_moment(moment), msgspec.convert(id, _Id, strict=False))
    except (msgspec.ValidationError, OverflowError):
        raise ParameterInvalid(
            f"after is {given[:60]!r}, must be the timestamp and the id of the last event that you have, as "
            "2026-01-02T23:45:12.5Z~17"
        ) from None


_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(name="format", type=Format, description="`ndjson`, unless told: an event a line."),
    Parameter(
        name="limit", type=Annotated[int, Meta(ge=1)], description="Most events; as many as may be, unless told."
    ),
    Parameter(
        name="after",
        type=Annotated[str, Meta(pattern=r"^\S+~[0-9]{1,19}$")],
        description="Go on behind this event: the `timestamp` and the `id` of the last one that you have, as "
        "`2026-01-02T23:45:12.5Z~17`.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/export",
        endpoint=export_events,
        summary="Export events",
        description="Newest first, streamed; with gzip, if Accept-Encoding has it. If there are as many as `limit`, "
        "there may be more: go on with `after`. An export that breaks is a connection that breaks, never a clean end. "
        "In CSV, a cell that a spreadsheet would take for a formula begins with an apostrophe.",
        tag="events",
        scope="read",
        parameters=_PARAMETERS,
        answers={
            200: Answer(
                description="The events.",
                type=str,
                media_type=MEDIA_TYPES["ndjson"],
                other_media=(MEDIA_TYPES["json"], "text/csv"),
                headers={"Content-Disposition": "A file name."},
            )
        },
        errors=(422,),
    ),
)

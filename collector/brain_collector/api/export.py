"""`GET /api/events/export`: all events of a filter as one streamed document, which `after` resumes."""

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

from brain_collector.access.guard import caller_of, refuse_if_revoked
from brain_collector.api import parameters
from brain_collector.api.operation import PATH, Operation, Parameter, ResponseSpec
from brain_collector.api.parameters import FILTER_PARAMETERS, ID_PATTERN, MOMENT_PATTERN, RANGE_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.errors import ParameterInvalid, Problem
from brain_collector.http.answer_budget import reserve
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
    """Send events, newest first: all of them, or the first `limit`."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    filter = parameters.event_filter(request, resources.settings)
    maximum = resources.settings.max_export_events
    limit = parameters.whole_number(
        request, "limit", default=maximum, minimum=1, maximum=maximum, remedy="; resume with `after`"
    )
    format: Format = parameters.choice(request, "format", Format, default="ndjson")
    after = _after(request)
    headers = {"Content-Disposition": f'attachment; filename="events.{format}"', "Vary": "Accept-Encoding"}
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPES[format], headers=headers)
    with ExitStack() as stack:
        stack.enter_context(resources.exports.slots.one(caller_of(request.scope)))
        pages = resources.exports.pages(filter, limit, after)
        await reserve(request, export.PAGE_BYTES)  # until the end: one page at a time
        first = await anext(pages)  # errors of the query are raised here, while the status can still be set
        cleanup = stack.pop_all()
    content = _document(request, pages, first, format)
    if accepts_gzip(request):
        content = _compress(content)
        headers["Content-Encoding"] = "gzip"
    return _StreamedExport(content, cleanup, media_type=MEDIA_TYPES[format], headers=headers)


async def _document(
    request: Request, pages: AsyncIterator[list[Event]], first: list[Event], format: Format
) -> AsyncIterator[bytes]:
    yield export.lines(first, format, first=True)
    has_events = bool(first)
    async for page in pages:
        if is_draining(request):
            raise _Aborted("the collector is shutting down")
        refuse_if_revoked(request)
        lines = export.lines(page, format, first=False)
        yield lines if has_events or format != "json" else lines.removeprefix(b",\n")  # a search's page may be empty
        has_events = has_events or bool(page)
    yield export.end(format)


async def _compress(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Compress in a thread, since compression takes more time than all other steps."""
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=_GZIP)
    async for chunk in content:
        yield await asyncio.to_thread(compressor.compress, chunk)
    yield compressor.flush()


class _Aborted(Exception):  # noqa: N818 - an outcome
    """The export cannot be completed."""


class _StreamedExport(StreamingResponse):
    """A response that is left unterminated after an error: otherwise a truncated export would look complete."""

    def __init__(self, content: AsyncIterator[bytes], cleanup: ExitStack, **options: Any) -> None:
        super().__init__(content, **options)
        self._cleanup = cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._cleanup:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (Problem, _Aborted) as error:
            logger.warning("an export was aborted: %s", error)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _after(request: Request) -> Position | None:
    """Return the position in `after`; None without it."""
    text = request.query_params.get("after")
    if text is None:
        return None
    moment, _, id = text.partition("~")
    try:
        return Position(parameters.parse_moment(moment), msgspec.convert(id, _Id, strict=False))
    except (msgspec.ValidationError, OverflowError):
        raise ParameterInvalid(
            f"after is {text[:60]!r}, must be the timestamp and the id of the last event that you received, such as "
            "2026-01-02T23:45:12.5Z~17"
        ) from None


_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(
        name="format", type=Format, description="`ndjson` (the default): one event per line; `json`: an array; `csv`."
    ),
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1)],
        maximum="max_export_events",
        description="Maximum number of events; by default, the largest value that the collector allows.",
    ),
    Parameter(
        name="after",
        type=Annotated[str, Meta(pattern=f"^{MOMENT_PATTERN}~{ID_PATTERN}$")],
        description="Resume after this event: the `timestamp` and the `id` of the last event that you received, for "
        "example `2026-01-02T23:45:12.5Z~17`.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/export",
        endpoint=export_events,
        summary="Export events",
        description="Newest first, streamed, and compressed if Accept-Encoding allows gzip. If the response has "
        "`limit` events, there may be more: resume with `after`. If an export fails after its beginning, the "
        "connection is closed without the end of the response. In CSV, a cell that a spreadsheet would interpret as a "
        "formula is prefixed with an apostrophe.",
        tag="events",
        scope="read",
        parameters=_PARAMETERS,
        responses={
            200: ResponseSpec(
                description="The events.",
                type=str,
                media_type=MEDIA_TYPES["ndjson"],
                other_media=(MEDIA_TYPES["json"], "text/csv"),
                headers={"Content-Disposition": "A name for the file."},
            )
        },
        errors=(422,),
    ),
)

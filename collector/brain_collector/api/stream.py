"""The live tail over HTTP: server-sent events (WHATWG HTML, section 9.2), as they arrive, and on from where one was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from brain_collector import arrival
from brain_collector.api import query
from brain_collector.api.listing import FILTER_PARAMETERS
from brain_collector.api.operation import PATH, Answer, Operation, Parameter
from brain_collector.arrival import Arrival
from brain_collector.draining import is_draining
from brain_collector.errors import Problem
from brain_collector.filter import Filter
from brain_collector.resources import Resources, resources
from brain_collector.tail import Frame

EVENT_STREAM: Final = "text/event-stream"
LAST_ID: Final = "Last-Event-ID"
RECONNECT_MS: Final = 1_000
LOOK_S: Final = 0.25
"""How often a stream with nothing to say looks whether the collector is to stop."""


async def stream(request: Request) -> Response:
    """Send events as they arrive, until the client leaves."""
    own = resources(request)
    query.only(request, [each.name for each in FILTER_PARAMETERS], prefix=query.DETAILS, repeatable=["event_type"])
    wanted = query.event_filter(request, own.settings)
    token = request.headers.get(LAST_ID, "")
    after = arrival.parse(token) if token else None
    own.tail.refuse_if_full()
    headers = {"X-Accel-Buffering": "no"}  # nginx would keep frames back
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=headers)
    return StreamingResponse(_stream(request, own, wanted, after), media_type=EVENT_STREAM, headers=headers)


async def _stream(request: Request, own: Resources, wanted: Filter, after: Arrival | None) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    with own.tail.listening(wanted) as listener:
        now = asyncio.get_running_loop().time
        spoke_at = now()
        while not listener.place.done():
            if is_draining(request):
                return
            await asyncio.wait([listener.place], timeout=LOOK_S)
            if now() - spoke_at >= own.settings.stream_heartbeat_s:  # the database is away
                spoke_at = now()
                yield b": the database is not available\n\n"
        start = listener.place.result()
        if after is None or after > start:  # of another database, or of one that was restored
            after = start
        yield _message("ready", after)
        try:
            while (frame := await own.tail.missed(wanted, after, start)) is not None:
                after = frame.place
                yield _framed(frame)
        except Problem:
            return  # the client comes again with the last id it has
        while not is_draining(request):
            next_frame = await listener.next(LOOK_S)
            if next_frame is not None:
                spoke_at = now()
                yield _framed(next_frame)
            elif now() - spoke_at >= own.settings.stream_heartbeat_s:
                spoke_at = now()
                yield _message("heartbeat", listener.seen)


def _framed(frame: Frame) -> bytes:
    if frame.gap is not None:
        return _message("gap", frame.place, msgspec.json.encode(frame.gap))
    return _message("events", frame.place, frame.events)


def _message(name: str, place: Arrival, data: bytes = b"") -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), str(place).encode(), data)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/stream",
        endpoint=stream,
        summary="Follow events as they arrive",
        description=(
            "Server-sent events that never end. `events` holds an array of events, in the order in which they were "
            "committed. `gap` tells that events are left out because they were too many (`arrived`, whether the "
            "filter wants them or not): list those `from` `since` `to` `until`. `ready` is the first, `heartbeat` "
            "says that there was nothing. Every message has an `id`: sent as `Last-Event-ID`, to any collector, the "
            "stream goes on after it, with nothing left out or sent twice. Details narrow it as they do a list."
        ),
        tag="events",
        scope="read",
        parameters=(
            *FILTER_PARAMETERS,
            Parameter(
                name=LAST_ID,
                place="header",
                type=Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}$")],
                description="Where a stream before ended; without it, the stream begins now.",
            ),
        ),
        answers={200: Answer(description="The stream.", type=str, media_type=EVENT_STREAM)},
        errors=(422,),
    ),
)

"""The live tail over HTTP: server-sent events (WHATWG HTML, section 9.2), as they arrive, and on from where one was."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from brain_collector.access.guard import refuse_if_revoked
from brain_collector.api import parameters
from brain_collector.api.operation import PATH, Answer, Operation, Parameter
from brain_collector.api.parameters import FILTER_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.errors import Problem
from brain_collector.http.draining import is_draining
from brain_collector.query.filter import Filter
from brain_collector.tail import commit_order
from brain_collector.tail.commit_order import Arrival
from brain_collector.tail.subscriber import Frame, Subscriber

EVENT_STREAM: Final = "text/event-stream"
LAST_ID: Final = "Last-Event-ID"
RECONNECT_MS: Final = 1_000
LOOK_S: Final = 0.25
"""How often a stream with nothing to say looks whether it is to end: the collector stops, or the key was revoked."""


class Message(NamedTuple):
    """One message of a stream, whatever it travels in: its name, the place after it, and JSON, if it has any."""

    event: str
    place: Arrival
    data: bytes = b""


class Asked(NamedTuple):
    """What a stream is to hold, and where it goes on from; None: it begins now."""

    wanted: Filter
    after: Arrival | None


async def stream(request: Request) -> Response:
    """Send events as they arrive, until the client leaves."""
    asked = asked_for(request, request.headers.get(LAST_ID, ""))
    headers = {"X-Accel-Buffering": "no"}  # nginx would keep frames back
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=headers)
    return StreamingResponse(_stream(request, asked), media_type=EVENT_STREAM, headers=headers)


def asked_for(request: Request, last_id: str, known: Iterable[Parameter] = FILTER_PARAMETERS) -> Asked:
    """Return what a request for a stream asks for; `known` are the parameters that it may have.

    Raises:
        ParameterInvalid: it asks for what there is not.
        Unavailable: there are as many streams as may be.
    """
    resources = resources_of(request)
    parameters.refuse_unknown(request, known, prefix=parameters.DETAILS, repeatable=["event_type"])
    wanted = parameters.event_filter(request, resources.settings)
    after = commit_order.parse(last_id) if last_id else None
    resources.tail.refuse_if_full()
    return Asked(wanted, after)


async def _stream(request: Request, asked: Asked) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    try:
        async with aclosing(messages(request, asked)) as said:
            async for message in said:
                yield b": the database is not available\n\n" if message is None else _framed(message)
    except Problem as error:  # whoever comes again is told in full
        yield f": {error}\n\n".encode()


def _framed(message: Message) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (message.event.encode(), str(message.place).encode(), message.data)


async def messages(request: Request, asked: Asked) -> AsyncGenerator[Message | None]:
    """Yield what a stream says until the collector is to stop; None: there is nothing to say, the database is away.

    It ends before, where the database goes away at the beginning, or refuses the filter: the client comes again, with
    the last id it has.

    Raises:
        Unauthorized, Unavailable: see `refuse_if_revoked`.
    """
    async with aclosing(_all_messages(request, asked)) as said:
        async for message in said:
            refuse_if_revoked(request)
            yield message


async def _all_messages(request: Request, asked: Asked) -> AsyncGenerator[Message | None]:
    resources, wanted, after = resources_of(request), asked.wanted, asked.after
    with resources.tail.listening(wanted) as listener:
        async for _ in _beginning(request, listener):
            yield None
        if not listener.place.done():
            return
        start = listener.place.result()
        if after is None or after > start:  # of another database, or of one that was restored
            after = start
        yield Message("ready", after)
        try:
            async for message in _said(resources.tail.missed(wanted, after, start)):
                yield message
        except Problem:
            return
        async for message in _following(request, listener):
            yield message
        if listener.ended:
            return
        after = listener.reached
    async for message in _said(resources.tail.rest(wanted, after, resources.settings.drain_s / 2)):
        yield message


async def _beginning(request: Request, listener: Subscriber) -> AsyncIterator[None]:
    """Wait until the listener has a place; yield now and then."""
    now = asyncio.get_running_loop().time
    spoke_at = now()
    while not listener.place.done() and not is_draining(request):
        await asyncio.wait([listener.place], timeout=LOOK_S)
        refuse_if_revoked(request)
        if now() - spoke_at >= resources_of(request).settings.stream_heartbeat_s:
            spoke_at = now()
            yield


async def _following(request: Request, listener: Subscriber) -> AsyncIterator[Message]:
    """Yield what the listener gets, until there comes no more or the collector is to stop."""
    now = asyncio.get_running_loop().time
    spoke_at = now()
    while not is_draining(request):
        frame = await listener.next(LOOK_S)
        refuse_if_revoked(request)
        if frame is not None:
            for message in _messages(frame):
                spoke_at = now()
                yield message
        elif listener.ended:
            return
        elif now() - spoke_at >= resources_of(request).settings.stream_heartbeat_s:
            spoke_at = now()
            yield Message("heartbeat", listener.seen)


async def _said(frames: AsyncIterator[Frame]) -> AsyncIterator[Message]:
    async for frame in frames:
        for message in _messages(frame):
            yield message


def _messages(frame: Frame) -> Iterator[Message]:
    if frame.gap is not None:
        yield Message("gap", frame.place, msgspec.json.encode(frame.gap))
    for part in frame.parts:
        yield Message("events", part.place, part.events)


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
            "stream goes on after it, with nothing left out or sent twice. It ends when its key is revoked or expires. "
            "Details narrow it as they do a list."
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

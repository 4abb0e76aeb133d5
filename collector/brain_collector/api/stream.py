"""`GET /api/events/stream`: the live tail as server-sent events (WHATWG HTML, section 9.2), resumable by position."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from brain_collector.access.guard import caller_of, refuse_if_revoked
from brain_collector.api import parameters
from brain_collector.api.operation import PATH, Operation, Parameter, ResponseSpec
from brain_collector.api.parameters import FILTER_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.errors import Problem
from brain_collector.http.draining import is_draining
from brain_collector.query.filter import Filter
from brain_collector.tail import position
from brain_collector.tail.position import Position
from brain_collector.tail.subscriber import Frame, Subscriber

EVENT_STREAM: Final = "text/event-stream"
LAST_ID: Final = "Last-Event-ID"
RECONNECT_MS: Final = 1_000
CHECK_INTERVAL_S: Final = 0.25
"""How often an idle stream checks whether the collector is shutting down or the API key was revoked."""


class Message(NamedTuple):
    """One message of a stream over any transport: its name, the position after it, and its data as JSON, if any."""

    event: str
    position: Position
    data: bytes = b""


class StreamRequest(NamedTuple):
    """The filter of a stream, and the position after which it resumes; None: it begins with the next event."""

    filter: Filter
    after: Position | None


async def stream(request: Request) -> Response:
    """Send events as they arrive, until the client disconnects."""
    stream_request = parse_request(request, request.headers.get(LAST_ID, ""))
    headers = {"X-Accel-Buffering": "no"}  # otherwise nginx would hold messages back
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=headers)
    return StreamingResponse(_server_sent_events(request, stream_request), media_type=EVENT_STREAM, headers=headers)


def parse_request(request: Request, last_id: str, known: Iterable[Parameter] = FILTER_PARAMETERS) -> StreamRequest:
    """Return the stream that a request asks for; `known` are the parameters of its endpoint.

    Raises:
        ParameterInvalid: a parameter or the position is invalid.
        Unavailable: the caller may have no other stream.
    """
    resources = resources_of(request)
    parameters.refuse_unknown(request, known, prefix=parameters.DETAILS, repeatable=["event_type"])
    filter = parameters.event_filter(request, resources.settings)
    after = position.parse(last_id) if last_id else None
    resources.tail.slots.refuse_if_full(caller_of(request.scope))
    return StreamRequest(filter, after)


async def _server_sent_events(request: Request, stream_request: StreamRequest) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    try:
        async with aclosing(messages(request, stream_request)) as stream_messages:
            async for message in stream_messages:
                yield b": waiting for the database\n\n" if message is None else _encode(message)
    except Problem as error:  # as a comment; the response to the next request has the full error
        yield f": {error}\n\n".encode()


def _encode(message: Message) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (message.event.encode(), str(message.position).encode(), message.data)


async def messages(request: Request, stream_request: StreamRequest) -> AsyncGenerator[Message | None]:
    """Yield the messages of a stream until the collector shuts down; None while the database is unavailable.

    The stream ends early if the database becomes unavailable at its beginning, or cannot run the query. The client
    then reconnects with the last id that it received.

    Raises:
        Unauthorized, Unavailable: see `refuse_if_revoked`; or the last slot was taken meanwhile.
    """
    async with aclosing(_all_messages(request, stream_request)) as all_messages:
        async for message in all_messages:
            refuse_if_revoked(request)
            yield message


async def _all_messages(request: Request, stream_request: StreamRequest) -> AsyncGenerator[Message | None]:
    """Yield `ready`, then missed events, then new events, and at shutdown those that were committed before it."""
    resources, filter, after = resources_of(request), stream_request.filter, stream_request.after
    caller = caller_of(request.scope)
    with resources.tail.slots.one(caller), resources.tail.subscribing(filter, after, caller) as subscriber:
        async for _ in _until_positioned(request, subscriber):
            yield None
        if not subscriber.position.done():
            return
        yield Message("ready", after or subscriber.position.result())
        try:
            async for message in _messages_of_all(resources.tail.catch_up.missed(subscriber)):
                yield message
        except Problem:
            return
        async for message in _new_messages(request, subscriber):
            yield message
        if subscriber.ended:
            return
        after = subscriber.reached
    rest = resources.tail.catch_up.rest(subscriber, after, resources.settings.drain_s / 2)
    async for message in _messages_of_all(rest):
        yield message


async def _until_positioned(request: Request, subscriber: Subscriber) -> AsyncIterator[None]:
    """Wait until the subscriber has a position; yield at every heartbeat."""
    now = asyncio.get_running_loop().time
    last_heartbeat = now()
    while not subscriber.position.done() and not is_draining(request):
        await asyncio.wait([subscriber.position], timeout=CHECK_INTERVAL_S)
        refuse_if_revoked(request)
        if now() - last_heartbeat >= resources_of(request).settings.stream_heartbeat_s:
            last_heartbeat = now()
            yield


async def _new_messages(request: Request, subscriber: Subscriber) -> AsyncIterator[Message]:
    """Yield the subscriber's frames as messages, and heartbeats, until it has ended or the collector shuts down."""
    now = asyncio.get_running_loop().time
    last_message = now()
    while not is_draining(request):
        frame = await subscriber.next(CHECK_INTERVAL_S)
        refuse_if_revoked(request)
        if frame is not None:
            for message in _messages_of(frame):
                last_message = now()
                yield message
        elif subscriber.ended:
            return
        elif now() - last_message >= resources_of(request).settings.stream_heartbeat_s:
            last_message = now()
            yield Message("heartbeat", subscriber.seen)


async def _messages_of_all(frames: AsyncIterator[Frame]) -> AsyncIterator[Message]:
    async for frame in frames:
        for message in _messages_of(frame):
            yield message


def _messages_of(frame: Frame) -> Iterator[Message]:
    if frame.gap is not None:
        yield Message("gap", frame.position, msgspec.json.encode(frame.gap))
    for part in frame.parts:
        yield Message("events", part.position, part.events)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/stream",
        endpoint=stream,
        summary="Follow new events (server-sent events)",
        description=(
            "An endless stream of server-sent events. The first message is `ready`. `events` has an array of events, "
            "in the order in which they were committed. `gap` means that events were left out, because there were too "
            "many, or because the database was replaced by a standby or a backup, or that the position is unknown or "
            "too old (`arrived` is their number before filtering, as far as it is known): list them with `from` = "
            "`since` and `to` = `until`. "
            "`heartbeat` is sent if there is nothing else. Every message has an `id`: send the last one as "
            "`Last-Event-ID`, to any collector, and the stream resumes after it, without repetitions, and without "
            "omissions other than those that a `gap` tells. The stream ends if its API key is revoked or expires. "
            "Parameters that begin with `details.` filter as in a list. The WebSocket `GET /api/events/ws` sends the "
            "same messages."
        ),
        tag="events",
        scope="read",
        parameters=(
            *FILTER_PARAMETERS,
            Parameter(
                name=LAST_ID,
                location="header",
                type=Annotated[str, Meta(pattern=position.PATTERN)],
                description="The position at which an earlier stream ended; by default, or if empty, it begins now.",
            ),
        ),
        responses={200: ResponseSpec(description="The stream.", other_media=(EVENT_STREAM,))},
        errors=(422,),
    ),
)

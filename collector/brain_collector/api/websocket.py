"""`/api/events/ws`: the live tail over a WebSocket (RFC 6455); each message of the stream is JSON in a text frame."""

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from brain_collector.api import stream
from brain_collector.api.operation import PATH, Operation, Parameter, ResponseSpec
from brain_collector.api.parameters import FILTER_PARAMETERS
from brain_collector.api.stream import Message, StreamRequest
from brain_collector.errors import Problem, Unauthorized, UpgradeRequired
from brain_collector.http.draining import is_draining
from brain_collector.http.websocket_protocol import VERSION
from brain_collector.tail.position import PATTERN

LAST_ID: Final = "last_event_id"
SERVICE_RESTART: Final = 1012
"""The close code at shutdown (IANA's registry): the client reconnects with the last id."""
TRY_AGAIN_LATER: Final = 1013
POLICY_VIOLATION: Final = 1008
"""The close code if the API key was revoked or has expired (RFC 6455, section 7.4.1): reconnecting is of no use."""
MAX_REASON_BYTES: Final = 123
"""RFC 6455, section 5.5."""


async def follow(socket: WebSocket) -> None:
    """Send events as they arrive, until the client disconnects. Messages from the client are ignored."""
    request = Request({**socket.scope, "type": "http", "method": "GET"})  # the request for the upgrade
    stream_request = _parse_request(request)
    await socket.accept()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(socket, request, stream_request))
        while (await socket.receive())["type"] != "websocket.disconnect":  # also received after the collector's close
            pass
        sending.cancel()


async def refuse(request: Request) -> Response:
    """Refuse a request that is not an upgrade to a WebSocket."""
    _parse_request(request)
    raise UpgradeRequired(
        f"{request.url.path} is a WebSocket: request an upgrade to version {VERSION} (RFC 6455, section 4.1), "
        f"or use {PATH}/stream",
        headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": VERSION},
    )


def _parse_request(request: Request) -> StreamRequest:
    return stream.parse_request(request, request.query_params.get(LAST_ID, ""), _PARAMETERS)


async def _send(socket: WebSocket, request: Request, stream_request: StreamRequest) -> None:
    with suppress(WebSocketDisconnect):  # `follow` receives the disconnect
        await socket.close(*await _send_messages(socket, request, stream_request))


async def _send_messages(socket: WebSocket, request: Request, stream_request: StreamRequest) -> tuple[int, str]:
    """Send all messages; return the close code and the reason."""
    try:
        async with aclosing(stream.messages(request, stream_request)) as messages:
            async for message in messages:
                if message is not None:
                    await socket.send_text(_encode(message).decode())
    except Problem as error:
        reason = str(error).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return POLICY_VIOLATION if isinstance(error, Unauthorized) else TRY_AGAIN_LATER, reason
    return SERVICE_RESTART if is_draining(request) else TRY_AGAIN_LATER, ""


def _encode(message: Message) -> bytes:
    return b'{"event":"%b","id":"%b","data":%b}' % (
        message.event.encode(),
        str(message.position).encode(),
        message.data or b"null",
    )


_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    Parameter(
        name=LAST_ID,
        type=Annotated[str, Meta(pattern=PATTERN)],
        description="The position at which an earlier stream ended; by default, the stream begins now.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/ws",
        endpoint=refuse,
        socket=follow,
        summary="Follow new events (WebSocket)",
        description=(
            "The messages of `/api/events/stream`, each in a text frame: "
            '`{"event", "id", "data"}`, where `data` may be `null`. OpenAPI cannot describe the messages after the '
            "upgrade. Connections from another origin are refused. Messages from the client are ignored; a large one "
            "closes the connection (1009). The collector closes it with 1012 when it shuts down (reconnect "
            "with the last `id`), and with 1008 if the API key is revoked or expires."
        ),
        tag="events",
        scope="read",
        parameters=_PARAMETERS,
        responses={101: ResponseSpec(description="The connection is upgraded.")},
        errors=(422, 426),
    ),
)

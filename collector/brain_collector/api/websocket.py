"""The live tail over a WebSocket (RFC 6455): the stream's messages, each a JSON object in a text frame."""

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from brain_collector.api import stream
from brain_collector.api.operation import PATH, Answer, Operation, Parameter
from brain_collector.api.parameters import FILTER_PARAMETERS
from brain_collector.api.stream import Asked, Message
from brain_collector.errors import Problem, Unauthorized, UpgradeRequired
from brain_collector.http.draining import is_draining
from brain_collector.http.websocket_protocol import VERSION

LAST_ID: Final = "last_event_id"
RESTARTS: Final = 1012
"""How it is closed when the collector is to stop (IANA's registry): come again, with the last id."""
TRY_AGAIN: Final = 1013
REFUSED: Final = 1008
"""How it is closed when the key was revoked or has expired (RFC 6455, section 7.4.1): with this key, never again."""
MAX_REASON_BYTES: Final = 123
"""RFC 6455, section 5.5."""


async def follow(socket: WebSocket) -> None:
    """Send events as they arrive, until the client leaves. What it sends is not looked at."""
    request = Request({**socket.scope, "type": "http", "method": "GET"})  # the one that asked for the upgrade
    asked = _asked_for(request)
    await socket.accept()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(socket, request, asked))
        while (await socket.receive())["type"] != "websocket.disconnect":  # it comes also when we have closed
            pass
        sending.cancel()


async def refuse(request: Request) -> Response:
    """Answer a request for the path that does not ask for a WebSocket."""
    _asked_for(request)
    raise UpgradeRequired(
        f"{request.url.path} is a WebSocket: ask for an upgrade to version {VERSION} (RFC 6455, section 4.1), "
        f"or follow {PATH}/stream",
        headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": VERSION},
    )


def _asked_for(request: Request) -> Asked:
    return stream.asked_for(request, request.query_params.get(LAST_ID, ""), _PARAMETERS)


async def _send(socket: WebSocket, request: Request, asked: Asked) -> None:
    with suppress(WebSocketDisconnect):  # `follow` learns of it
        await socket.close(*await _said(socket, request, asked))


async def _said(socket: WebSocket, request: Request, asked: Asked) -> tuple[int, str]:
    """Send all there is to say; return how to close after it, and why."""
    try:
        async with aclosing(stream.messages(request, asked)) as said:
            async for message in said:
                if message is not None:
                    await socket.send_text(_framed(message).decode())
    except Problem as error:
        reason = str(error).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return REFUSED if isinstance(error, Unauthorized) else TRY_AGAIN, reason
    return RESTARTS if is_draining(request) else TRY_AGAIN, ""


def _framed(message: Message) -> bytes:
    return b'{"event":"%b","id":"%b","data":%b}' % (
        message.event.encode(),
        str(message.place).encode(),
        message.data or b"null",
    )


_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    Parameter(
        name=LAST_ID,
        type=Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}$")],
        description="The position at which an earlier stream ended; without it, the stream begins now.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/ws",
        endpoint=refuse,
        socket=follow,
        summary="Follow events as they arrive, over a WebSocket",
        description=(
            'The messages of `/api/events/stream`, each a text frame: `{"event", "id", "data"}`, without data '
            "`null`. OpenAPI cannot describe what comes after the upgrade. Whom a page of another origin sends is "
            "refused. What the client sends is dropped; a large message ends it (1009). When the collector is to stop, "
            "it closes with 1012: come again, with the last `id`; with 1008 when its key was revoked or has expired."
        ),
        tag="events",
        scope="read",
        parameters=_PARAMETERS,
        answers={101: Answer(description="The upgrade.")},
        errors=(422, 426),
    ),
)

"""What one operation of the API is: how it is routed, how it is documented."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from brain_collector.schema import KeyScope

JSON = "application/json"
PATH = "/api/events"
QUOTA_HEADERS = {
    "RateLimit-Policy": "How much may come in which time, if there is a limit (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "How much of it is left.",
}
Endpoint = Callable[[Request], Awaitable[Response]]
Socket = Callable[[WebSocket], Awaitable[None]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of the path, the query or the header; `type` is any type that msgspec can describe."""

    name: str
    place: str = "query"
    type: Any
    description: str
    required: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One documented answer; `type` None has no body. `other_media` are further media types it may come as."""

    description: str
    type: Any = None
    media_type: str = JSON
    other_media: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `body` maps each media type that is taken to the type it is decoded into.

    `socket` serves the path after an upgrade, `endpoint` the requests that ask for none.
    `scope` is what the caller's key must have; None: answered without a key, as the probes are.
    `errors` are the problem statuses beside those that every guarded operation shares.
    """

    method: str
    path: str
    endpoint: Endpoint
    socket: Socket | None = None
    summary: str
    tag: str
    scope: KeyScope | None
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: dict[str, Any] = {}
    answers: dict[int, Answer]
    errors: tuple[int, ...] = ()

"""Operations: one method on one path, with everything that its route, its access rule and its OpenAPI need."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from brain_collector.schema import KeyScope

JSON = "application/json"
PATH = "/api/events"
RATE_LIMIT_HEADERS = {
    "RateLimit-Policy": "The limits and their time windows, if there are any (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "How much of each limit is left.",
}
Endpoint = Callable[[Request], Awaitable[Response]]
Socket = Callable[[WebSocket], Awaitable[None]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter.

    `location` is `path`, `query` or `header`. `type` is any type that msgspec can describe. `maximum` is the setting
    that limits the number, or how often the parameter may be repeated.
    """

    name: str
    location: str = "query"
    type: Any
    description: str
    required: bool = False
    maximum: str = ""


class ResponseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A documented response. `type` is None if it has no JSON; `other_media` are (further) media types it may have."""

    description: str
    type: Any = None
    media_type: str = JSON
    other_media: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path.

    `body` maps each accepted media type to the type that it is decoded into.
    `socket` serves the path after an upgrade, `endpoint` requests without one.
    `scope` is the scope that the caller's API key must have; None: no API key is required, as for the probes.
    `errors` are the problem statuses in addition to those of every operation with a scope.
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
    responses: dict[int, ResponseSpec]
    errors: tuple[int, ...] = ()

"""What one operation of the API is: how it is routed, how it is documented."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

JSON = "application/json"
PATH = "/api/events"
Endpoint = Callable[[Request], Awaitable[Response]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of the path, the query or the header; `type` is any type that msgspec can describe."""

    name: str
    place: str = "query"
    type: Any
    description: str
    required: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One documented answer; `type` None has no body."""

    description: str
    type: Any = None
    media_type: str = JSON
    headers: dict[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `body` maps each media type that is taken to the type it is decoded into.

    `errors` are the problem statuses beside those that every guarded operation shares.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    tag: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: dict[str, Any] = {}
    answers: dict[int, Answer]
    errors: tuple[int, ...] = ()
    open: bool = False  # answered without a key: the probes

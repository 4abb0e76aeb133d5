"""What this application knows of a request beyond ASGI: one typed object, under one key of the scope.

The protocol makes it with the request; a request that came by no connection of ours gets one when it is first asked
for. Each field is written in one place, named beside it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from starlette.types import Scope

from brain_collector.errors import Problem
from brain_collector.http.client_connection import NO_CONNECTION, ClientConnection
from brain_collector.schema import KeyScope

_KEY: Final = "brain_collector"


class Caller(NamedTuple):
    """Who sends a request: `key:<prefix>`, `bootstrap`, or `open` where no API key is needed; and what it may do."""

    name: str
    scopes: frozenset[KeyScope]


NOBODY: Final = Caller("open", frozenset())
"""Anyone, at a probe of a collector that has API keys, or may have some."""


class Stopping:
    """Whether this collector has been told to stop."""

    def __init__(self) -> None:
        self.begun = False


class RequestContext(msgspec.Struct, kw_only=True):
    """One request, as the layers above the endpoint found it.

    Attributes:
        connection: The client's connection (by the protocol).
        is_body_complete: The whole body has arrived (by the protocol).
        request_id: Identifies the request in the response, in errors and in the log (by the request log).
        stopping: Tells whether the collector stops (by the draining middleware).
        caller: Who sends the request (by the guard).
        refusal: Why a caller without access is served all the same: an open path was requested (by the guard).
        is_trusted: The caller may read, or no API key is needed (by the guard).
        check_again: Returns the caller again, or raises if access was revoked meanwhile (by the guard).
    """

    connection: ClientConnection = NO_CONNECTION
    is_body_complete: bool = False
    request_id: str = ""
    stopping: Stopping = msgspec.field(default_factory=Stopping)
    caller: Caller = NOBODY
    refusal: Problem | None = None
    is_trusted: bool = False
    check_again: Callable[[], Caller] = lambda: NOBODY


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request; the same one to every layer."""
    context: RequestContext | None = scope.get(_KEY)
    return begin_request(scope) if context is None else context


def begin_request(scope: Scope, connection: ClientConnection = NO_CONNECTION) -> RequestContext:
    """Give a new request its context."""
    context = scope[_KEY] = RequestContext(connection=connection)
    return context

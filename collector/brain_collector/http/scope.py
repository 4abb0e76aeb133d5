"""The context of a request, beyond ASGI: one typed object, under one key of the scope.

The protocol creates it with the request; for a request from another server or a test, it is created at its first use.
Each field is written in one place, which its description names.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from starlette.types import Scope

from brain_collector.errors import Problem
from brain_collector.http.admission import Reservation
from brain_collector.http.client_connection import NO_CONNECTION, ClientConnection
from brain_collector.schema import KeyScope
from brain_collector.shares import OPEN_CALLER

_KEY: Final = "brain_collector"


class Caller(NamedTuple):
    """The caller: its name (`key:<prefix>`, `bootstrap`, or `open` if no API key is required), and its scopes."""

    name: str
    scopes: frozenset[KeyScope]


ANONYMOUS: Final = Caller(OPEN_CALLER, frozenset())
"""A caller without a valid API key, at a path that requires none."""


class Stopping:
    """Whether this collector is shutting down; the signal handler sets it."""

    def __init__(self) -> None:
        self.begun = False


class RequestContext(msgspec.Struct, kw_only=True):
    """A request, as the layers outside the endpoint know it.

    Attributes:
        connection: The client's connection (by the protocol).
        is_body_complete: The whole body has arrived (by the protocol).
        request_id: The id of the request in the response, in errors and in the log (by the request log).
        stopping: Whether the collector is shutting down (by the draining middleware).
        caller: The caller (by the guard).
        refusal: Why the caller has no access; the request is served because its path requires none (by the guard).
        answer: The memory that is reserved for the answer to a read (by `answer_budget`).
        check_again: Raises if access was revoked meanwhile; nothing is checked where no key is required (by the guard).
    """

    connection: ClientConnection = NO_CONNECTION
    is_body_complete: bool = False
    request_id: str = ""
    stopping: Stopping = msgspec.field(default_factory=Stopping)
    caller: Caller = ANONYMOUS
    refusal: Problem | None = None
    answer: Reservation | None = None
    check_again: Callable[[], Caller] = lambda: ANONYMOUS


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request, which all layers share."""
    context: RequestContext | None = scope.get(_KEY)
    return begin_request(scope) if context is None else context


def begin_request(scope: Scope, connection: ClientConnection = NO_CONNECTION) -> RequestContext:
    """Create the context of a new request."""
    context = scope[_KEY] = RequestContext(connection=connection)
    return context

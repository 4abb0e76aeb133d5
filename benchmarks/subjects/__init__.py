"""What is compared: one module for each library, all with the same few functions.

`start` sets the library up as its documentation says, with its defaults. `flat`, `nested` and `failed` log one event
with the number `n`; `bound` is a context in which events carry two more fields (None: the library has no such thing).
`flush` waits until what was logged is sent. `middleware`, where there is one, wraps an ASGI application.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class Target(NamedTuple):
    """Where to send: an HTTP address, the port for pickled records, and a directory for what cannot be sent."""

    url: str
    socket_port: int
    spool_dir: str | None


class Subject(Protocol):
    bound: Callable[[], AbstractContextManager[Any]] | None

    def start(self, target: Target) -> None: ...
    def flat(self, n: int) -> None: ...
    def nested(self, n: int) -> None: ...
    def failed(self, n: int) -> None: ...
    def flush(self) -> None: ...


LIBRARIES = {
    "brain": "brain_events",
    "brain_durable": "brain_events",
    "sentry": "sentry_sdk",
    "otel": "opentelemetry.sdk",
    "logfire": "logfire",
    "loguru": "loguru",
    "stdlib": "logging",
}
"""Each subject's module here, and the library it cannot do without."""

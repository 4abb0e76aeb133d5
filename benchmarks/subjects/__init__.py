"""The subjects of the SDK benchmark: one module for each library, all with the same functions.

`start` configures the library as its documentation says, with its defaults. `flat`, `nested` and `failed` log one event
with the number `n`; `bound` is a context that adds two fields to events (None: the library does not support it).
`flush` waits until all events are sent. `middleware`, where it exists, wraps an ASGI application.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class Target(NamedTuple):
    """The destination: an HTTP address, the port for pickled records, and a directory for undelivered batches."""

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
"""The module of each subject, and the library that it requires."""

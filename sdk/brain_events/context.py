"""Bound fields of the current task or thread, which are added to the details of every event that it logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

BOUND: ContextVar[dict[str, Any] | None] = ContextVar("brain_events_bound", default=None)
"""The bound fields. The dict is replaced, never changed, so that tasks never see each other's fields."""

SENDING: ContextVar[bool] = ContextVar("brain_events_sending", default=False)
"""True while this thread delivers events. Adapters skip records that are logged meanwhile: they are about delivery."""

WORKER_THREAD = "brain-events"
"""The name of the thread that delivers. A log record that a queue moves to another thread keeps this name."""

SILENT: Final = object()
"""A bound details key that no event can have. It costs the fast path nothing: no known shape has this key."""


class SilencedError(Exception):
    """An event was logged by the `before_send` hook, which it would reach again, without end."""


@contextmanager
def silence() -> Iterator[None]:
    """Run code of the application, and drop the events that it logs."""
    before = BOUND.get()
    BOUND.set({SILENT: True})  # type: ignore[dict-item]
    try:
        yield
    finally:
        BOUND.set(before)


def bind(**fields: Any) -> None:
    """Add fields to the details of every event that this task or thread logs from now on.

    Details that are passed to `log_system_event` take precedence.
    """
    BOUND.set({**(BOUND.get() or {}), **fields})


def unbind(*names: str) -> None:
    """Remove bound fields by name; a name that is not bound is ignored."""
    kept = {name: value for name, value in (BOUND.get() or {}).items() if name not in names or name is SILENT}
    BOUND.set(kept or None)


def clear() -> None:
    """Remove all bound fields."""
    unbind(*(BOUND.get() or ()))


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Bind fields inside a `with` block, then restore the fields that were bound before."""
    # Not by ContextVar.reset, which raises when a generator or an ASGI application is left from another task than it
    # was entered from.
    before = BOUND.get()
    BOUND.set({**(before or {}), **fields})
    try:
        yield
    finally:
        BOUND.set(before)

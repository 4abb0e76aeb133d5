"""Fields of the running task or thread: `bind` puts them on, every event logged below carries them in its details."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

BOUND: ContextVar[dict[str, Any] | None] = ContextVar("brain_events_bound", default=None)
"""The bound fields; the dict is replaced, never changed, so that tasks never see each other's fields."""

SENDING: ContextVar[bool] = ContextVar("brain_events_sending", default=False)
"""True while this thread delivers events: what is logged then is about us, and an adapter leaves it out."""

WORKER_THREAD = "brain-events"
"""The name of the thread that delivers; a record that a queue carries to another thread still bears it."""

SILENT: Final = object()
"""A bound key that no event can have. It costs the fast path nothing: no shape that it knows has such a key."""


class SilencedError(Exception):
    """An event was logged by a hook that looks at events; logged, it would come to the hook, and so on."""


@contextmanager
def silence() -> Iterator[None]:
    """Run code of the application whose own events are dropped."""
    before = BOUND.get()
    BOUND.set({SILENT: True})  # type: ignore[dict-item]
    try:
        yield
    finally:
        BOUND.set(before)


def bind(**fields: Any) -> None:
    """Add `fields` to the details of every event that this task or thread logs from now on."""
    BOUND.set({**(BOUND.get() or {}), **fields})


def unbind(*names: str) -> None:
    """Take the named fields off again; a name that is not bound is ignored."""
    kept = {name: value for name, value in (BOUND.get() or {}).items() if name not in names or name is SILENT}
    BOUND.set(kept or None)


def clear() -> None:
    """Take all fields off."""
    unbind(*(BOUND.get() or ()))


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Bind `fields` inside a `with` block, then put back what was bound before.

    The old value is set again in place of `ContextVar.reset`, which raises when a generator or an
    ASGI application is left from another task than it was entered from.
    """
    before = BOUND.get()
    BOUND.set({**(before or {}), **fields})
    try:
        yield
    finally:
        BOUND.set(before)

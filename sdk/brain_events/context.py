"""Fields of the running task or thread: `bind` puts them on, every event logged below carries them in its details."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

BOUND: ContextVar[dict[str, Any] | None] = ContextVar("brain_events_bound", default=None)
"""The bound fields; the dict is replaced, never changed, so that tasks never see each other's fields."""

SENDING: ContextVar[bool] = ContextVar("brain_events_sending", default=False)
"""True while this thread delivers events: what is logged then is about us, and an adapter leaves it out."""


WORKER_THREAD = "brain-events"
"""The name of the thread that delivers; a record that a queue carries to another thread still bears it."""


def bind(**fields: Any) -> None:
    """Add `fields` to the details of every event that this task or thread logs from now on."""
    BOUND.set({**(BOUND.get() or {}), **fields})


def with_bound(details: Any) -> Any:
    """Return `details` with the bound fields added; where both have a name, `details` win."""
    fields = BOUND.get()
    if fields is None:
        return details
    if details is None:
        return fields
    try:
        return {**fields, **details}
    except Exception:  # noqa: BLE001 -- no mapping, or one that raises
        return {**fields, "value": details}


def unbind(*names: str) -> None:
    """Take the named fields off again; a name that is not bound is ignored."""
    kept = {name: value for name, value in (BOUND.get() or {}).items() if name not in names}
    BOUND.set(kept or None)


def clear() -> None:
    """Take all fields off."""
    BOUND.set(None)


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

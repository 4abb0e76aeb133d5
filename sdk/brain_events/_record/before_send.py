"""`before_send`: an event goes to the application's hook, what may be sent comes out, or nothing.

The hook runs in the thread that logs, before the event is kept anywhere: what it drops takes no room and reaches no
disk, durable mode included, and it can look at the context of the call. It fails closed.
"""

import logging
from collections.abc import Callable

from brain_events._record.event import make_event
from brain_events.context import silence
from brain_events.wire import Event

BeforeSend = Callable[[Event], Event | None]

logger = logging.getLogger("brain_events")


class Hook:
    """Calls `before_send`; makes what it returns valid again, since it may have changed anything."""

    def __init__(self, before_send: BeforeSend, max_bytes: int, allowed_keys: frozenset[str]) -> None:
        self._before_send = before_send
        self._max_bytes = max_bytes
        self._allowed_keys = allowed_keys
        self._warned = False

    def __call__(self, event: Event) -> Event | None:
        """Return the event to send; None for one that was dropped, or that the hook failed on."""
        try:
            with silence():  # an event logged by the hook would come to the hook, and so on
                returned = self._before_send(event)
        except Exception as error:  # noqa: BLE001 -- code of the application
            self._fail(f"it raised {type(error).__name__}")  # not its text, which may hold what must not leave
            return None
        if returned is not None and type(returned) is not Event:
            self._fail(f"it returned neither an Event nor None, but {type(returned).__name__}")
            return None
        return returned and self._sanitized(returned)

    def _sanitized(self, event: Event) -> Event:
        return make_event(
            event.event_type,
            event.severity,
            event.message,
            event.details,
            event.source,
            event.timestamp,
            None,
            self._max_bytes,
            self._allowed_keys,
        )

    def _fail(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            with silence():  # our logger's handlers are code of the application, too
                logger.warning("before_send failed, its event is dropped; later ones are only counted: %s", what)

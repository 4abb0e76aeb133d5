"""Call the application's `before_send` hook: an event goes in, the event to send comes out, or None.

The hook runs in the thread that logs, before the event is kept anywhere. An event that it drops takes no memory and
reaches no disk, in durable mode either, and the hook can read the context of the call. If it fails, the event is
dropped.
"""

import logging
from collections.abc import Callable

from brain_events._record.event import make_event
from brain_events._record.limits import Limits
from brain_events.context import silence
from brain_events.wire import Event

BeforeSend = Callable[[Event], Event | None]

logger = logging.getLogger("brain_events")


class Hook:
    """Calls `before_send`, and makes its result valid again, since the hook may have changed anything."""

    def __init__(self, before_send: BeforeSend, limits: Limits) -> None:
        self._before_send = before_send
        self._limits = limits
        self._warned = False

    def __call__(self, event: Event) -> Event | None:
        """Return the event to send; None if the hook dropped it or failed."""
        try:
            with silence():  # an event that the hook logs would reach the hook again, without end
                returned = self._before_send(event)
        except Exception as error:  # noqa: BLE001 -- code of the application
            self._warn(f"it raised {type(error).__name__}")  # without the text, which may hold what must not leave
            return None
        if returned is not None and type(returned) is not Event:
            self._warn(f"it returned {type(returned).__name__}, not an Event or None")
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
            self._limits,
        )

    def _warn(self, reason: str) -> None:
        """Log the first failure; `stats` counts all of them."""
        if not self._warned:
            self._warned = True
            with silence():  # the handlers of our logger are code of the application, too
                logger.warning(
                    "before_send failed and its event was dropped; later failures are only counted: %s", reason
                )

"""Keep the last events that are logged before `init` as plain data, and hand them over to the first client."""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from brain_events._queue.stats import Stats
from brain_events._record.bound_fields import with_bound
from brain_events._record.event import make_event
from brain_events._record.limits import Limits
from brain_events.client import Client
from brain_events.config import DEFAULT_MAX_EVENT_BYTES
from brain_events.wire import Event

MAX_EVENTS = 256
_LIMITS = Limits(DEFAULT_MAX_EVENT_BYTES)


class Early:
    """Takes the place of the process-wide client until `init`; keeps no object of the application alive.

    Args:
        on_first: Called before the first event is kept; a second call must do no harm.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first: Callable[[], None] | None = on_first
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._logged = 0
        self._successor: Client | None = None

    def log(
        self,
        event_type: str,
        severity: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        source: str | None = None,
        timestamp: datetime | None = None,
        exc_info: Any = None,
    ) -> None:
        self._logged += 1
        try:
            if self._on_first is not None:  # two threads may both call it
                on_first, self._on_first = self._on_first, None
                on_first()
            details = with_bound(details)
            event = make_event(event_type, severity, message, details, source, timestamp, exc_info, _LIMITS)
            self._events.append(event)
            if self._successor is not None:  # `init` was called in another thread after this call had begun
                self.hand_over(self._successor)
        except Exception:  # noqa: BLE001 -- such as RecursionError; the event counts as lost
            return

    def hand_over(self, successor: Client) -> None:
        """Give all events to `successor`, and also those that threads still log here."""
        self._successor = successor
        events = [self._events.popleft() for _ in range(len(self._events))]
        lost, self._logged = self._logged - len(events), 0
        successor.adopt(events, lost)

    def flush(self, timeout_s: float = 5.0) -> bool:  # noqa: ARG002 -- there is nothing to wait for
        """Return False while events wait for `init`."""
        return not self._events

    async def aflush(self, timeout_s: float = 5.0) -> bool:  # noqa: ARG002 -- as above
        """Return False while events wait for `init`."""
        return not self._events

    def close(self, timeout_s: float = 2.0) -> bool:  # noqa: ARG002 -- as above
        """Keep the events, since `init` may still be called."""
        return not self._events

    def stats(self) -> Stats:
        waiting = len(self._events)
        lost = self._logged - waiting
        dropped = {"before_init": lost} if lost else {}
        return Stats(logged=self._logged, delivered=0, rejected=0, dropped=dropped, in_memory=waiting)

"""structlog: an event dict comes through unchanged, and is logged as an event on its way.

    structlog.configure(processors=[..., EventsProcessor(), structlog.processors.JSONRenderer()])

It imports nothing of structlog: a processor is any callable of this shape.
"""

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

from brain_events._default import log_system_event
from brain_events.client import Client
from brain_events.context import SENDING

EventDict = MutableMapping[str, Any]

_NOT_DETAILS = frozenset({"event", "event_type", "level", "timestamp", "exc_info", "_record", "_from_structlog"})


class EventsProcessor:
    """Logs every event dict that passes, to `client` or else the one that `init` made.

    Put it after the processors that add fields (`merge_contextvars`, `add_log_level`) and before the
    renderer. The event type is the key `event_type`, else `log`; the severity is the level, else the method's name.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._log: Callable[..., None] = client.log if client is not None else log_system_event

    def __call__(self, _logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
        if not SENDING.get():  # what is logged while events are delivered would feed on itself
            with suppress(Exception):  # put behind a renderer, it meets a str
                self._log_dict(method_name, event_dict)
        return event_dict

    def _log_dict(self, method_name: str, event_dict: EventDict) -> None:
        self._log(
            event_dict.get("event_type") or "log",
            event_dict.get("level") or method_name,
            event_dict.get("event", ""),
            {key: value for key, value in event_dict.items() if key not in _NOT_DETAILS},
            exc_info=event_dict.get("exc_info"),
        )

"""structlog: a processor that logs each event dict as an event, and passes it on unchanged.

    structlog.configure(processors=[..., EventsProcessor(), structlog.processors.JSONRenderer()])

It can also be one of the `processors`, or in the `foreign_pre_chain`, of a `structlog.stdlib.ProcessorFormatter`.
It does not import structlog: a processor is any callable with this signature.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from brain_events._process.default import log_system_event
from brain_events._record.exception import describe_stack
from brain_events.client import Client
from brain_events.context import SENDING
from brain_events.stdlib import extra_of, is_ours, time_of

EventDict = MutableMapping[str, Any]

_NOT_DETAILS = frozenset({
    "event", "event_type", "level", "timestamp", "exc_info", "stack_info", "positional_args", "_record",
    "_from_structlog",
})  # fmt: skip
_pickled: WeakKeyDictionary[Client, str] = WeakKeyDictionary()
_unpickled: WeakValueDictionary[str, Client] = WeakValueDictionary()
"""The clients of pickled processors by a name of their own, so that this process finds them again."""
_LOGGING = frozenset({"structlog", "logging", "brain_events"})


class EventsProcessor:
    """A structlog processor that logs every event dict as an event.

    Put it after the processors that add fields (`merge_contextvars`, `add_log_level`), and before those that render
    exceptions or the event dict. The event type is the value of `event_type`, or else `log`; the severity is the level,
    or else the name of the method.

    It can be pickled, as the loggers of structlog can. In another process, which has no such `client`, it then logs to
    the one that `init` created there.

    Args:
        client: The client to log to; by default the one that `init` created.
        terminal: End the chain with `structlog.DropEvent`, so that nothing is printed.
        add_template: Add the event without its positional arguments to the details, as `template`, if it has any.
    """

    def __init__(self, client: Client | None = None, *, terminal: bool = False, add_template: bool = True) -> None:
        self._client = client
        self._log: Callable[..., None] = client.log if client is not None else log_system_event
        self._terminal = terminal
        self._add_template = add_template

    def __reduce__(self) -> tuple[Any, ...]:
        if self._client is None:
            return _restore, (type(self), None, self._terminal, self._add_template)
        name = _pickled.setdefault(self._client, os.urandom(16).hex())
        _unpickled[name] = self._client
        return _restore, (type(self), name, self._terminal, self._add_template)

    def __call__(self, _logger: Any, method_name: str, event_dict: EventDict) -> EventDict:
        if not SENDING.get():  # events that delivery logs would cause more deliveries
            with suppress(Exception):  # after a renderer, the event dict is a str
                self._log_dict(method_name, event_dict)
        if self._terminal and (structlog := sys.modules.get("structlog")):
            raise structlog.DropEvent
        return event_dict

    def _log_dict(self, method_name: str, event_dict: EventDict) -> None:
        details = {key: value for key, value in event_dict.items() if key not in _NOT_DETAILS}
        event_type, timestamp = event_dict.get("event_type"), None
        record = event_dict.get("_record")
        if isinstance(record, logging.LogRecord):
            if is_ours(record):
                return
            timestamp = time_of(record)
            if not event_dict.get("_from_structlog"):
                details = {"logger": record.name} | extra_of(record) | details
                event_type = details.pop("event_type", event_type)
        if self._add_template and (template := _template_of(event_dict)):
            details.setdefault("template", template)
        if stack_info := event_dict.get("stack_info"):
            details["stack"] = stack_info if isinstance(stack_info, str) else describe_stack(_caller())
        self._log(
            event_type or "log",
            event_dict.get("level") or method_name,
            _message_of(event_dict),
            details,
            timestamp=timestamp,
            exc_info=event_dict.get("exc_info", method_name == "exception" and "exception" not in event_dict),
        )


def _restore(  # positional, since it is pickled
    kind: type[EventsProcessor],
    client_name: str | None,
    terminal: bool,  # noqa: FBT001
    add_template: bool,  # noqa: FBT001
) -> EventsProcessor:
    client = _unpickled.get(client_name) if client_name else None
    return kind(client, terminal=terminal, add_template=add_template)


def _message_of(event_dict: EventDict) -> Any:
    """Return the event, formatted with its positional arguments if no processor has done that yet."""
    event, args = event_dict.get("event", ""), event_dict.get("positional_args")
    if not args:
        return event
    try:
        return event % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args)
    except Exception:  # noqa: BLE001 -- the arguments do not fit the format; store both
        return f"{event} {args}"


def _template_of(event_dict: EventDict) -> str | None:
    event = event_dict.get("event")
    if not event_dict.get("positional_args") or not isinstance(event, str):
        return None
    is_foreign = "_record" in event_dict and not event_dict.get("_from_structlog")  # its message is formatted already
    return None if is_foreign else event


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- as structlog does
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _LOGGING:
        frame = frame.f_back
    return frame

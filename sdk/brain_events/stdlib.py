"""Standard logging: log each `LogRecord` as an event. Loguru accepts the handler as a sink, too."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from brain_events._adapters import loguru
from brain_events._process.default import log_system_event
from brain_events.client import Client
from brain_events.context import SENDING, WORKER_THREAD

_NOT_EXTRA = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "event_type"}


class EventsHandler(logging.Handler):
    """A `logging` handler that logs every record as an event.

    The event type is the record's attribute `event_type` (`extra={"event_type": "deployment"}`), or else `log`. The
    fields of `extra` become details. Records about the delivery of events are skipped, so that the handler never causes
    its own records. `flush` does nothing: `logging` calls it under its global lock, where waiting for a network would
    block every thread that logs.

    For loguru use `logger.add(EventsHandler())`; the fields that `logger.bind` adds become details.

    Args:
        level: The minimum level of records to log.
        client: The client to log to; by default the one that `init` created.
        add_template: Add the message without its arguments to the details, as `template`, if a record has arguments.
    """

    def __init__(
        self, level: int | str = logging.NOTSET, client: Client | None = None, *, add_template: bool = True
    ) -> None:
        super().__init__(level)
        self._add_template = add_template
        self._log: Callable[..., None] = client.log if client is not None else log_system_event

    def emit(self, record: logging.LogRecord) -> None:
        if not is_ours(record):
            try:
                self._log_record(record)
            except Exception:  # noqa: BLE001 -- as every handler of logging does
                self.handleError(record)

    def _log_record(self, record: logging.LogRecord) -> None:
        details = extra_of(record)
        event_type = details.pop("event_type", None)
        details["logger"] = record.name
        if self._add_template and record.args and type(record.msg) is str:
            details.setdefault("template", record.msg)
        if record.exc_text and not record.exc_info:  # QueueHandler has formatted the exception already
            details["traceback"] = record.exc_text
        if record.stack_info:
            details["stack"] = record.stack_info
        self._log(
            event_type or "log",
            record.levelno,
            _message_of(record),
            details,
            timestamp=time_of(record),
            exc_info=record.exc_info,
        )


def is_ours(record: logging.LogRecord) -> bool:
    """Return whether a record was logged by this package, or by a library that it delivers with, such as urllib3."""
    return SENDING.get() or record.threadName == WORKER_THREAD or f"{record.name}.".startswith("brain_events.")


def extra_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that the application added to a record, `event_type` included."""
    fields = {name: value for name, value in record.__dict__.items() if name not in _NOT_EXTRA}
    if loguru.is_loguru_record(record):
        fields |= fields.pop("extra")
    elif "event_type" in record.__dict__:
        fields["event_type"] = record.__dict__["event_type"]
    return fields


def time_of(record: logging.LogRecord) -> datetime:
    """Return the time of a record, in UTC."""
    return datetime.fromtimestamp(record.created, UTC)


def _message_of(record: logging.LogRecord) -> Any:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 -- the arguments do not fit the format; store both
        return f"{record.msg} {record.args}"
    return loguru.message_of(record, message) if loguru.is_loguru_record(record) else message

"""Make an event of any arguments at all, within the limits of `wire`, and encode it as one line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from brain_events._record.exception import describe_exception
from brain_events._record.limits import Limits
from brain_events._record.sanitize import is_a, sanitize, to_text
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SEVERITY_NAMES, SOURCE_MAX_CHARS, Event

encode = msgspec.json.Encoder().encode


def make_event(
    event_type: Any,
    severity: Any,
    message: Any,
    details: Any,
    source: Any,
    timestamp: Any,
    exc_info: Any,
    limits: Limits,
) -> Event:
    """Return the valid event closest to these arguments; its details keep the values that could not be used."""
    fields = _as_fields(details)
    known_severity = severity_of(severity)
    if known_severity is None:
        fields["severity_given"] = to_text(severity, 100)
    time = datetime.now(UTC) if timestamp is None else _as_utc(timestamp)
    if time is None:
        fields["timestamp_given"] = to_text(timestamp, 100)
    if (
        exc_info is not None
        and exc_info is not False
        and (exception := describe_exception(exc_info, add_where=limits.add_where))
    ):
        fields["exception"] = exception
    return Event(
        event_type=cut(event_type, EVENT_TYPE_MAX_CHARS) or "unspecified",
        severity=known_severity or "error",
        message=to_text(message, limits.max_bytes // 2),
        details=sanitize(fields, limits.max_bytes, limits.allowed_keys) if fields else None,
        source=cut(source, SOURCE_MAX_CHARS) or None,
        timestamp=time or datetime.now(UTC),
    )


def encode_event(event: Event, limits: Limits) -> bytes:
    """Return the line of `event`, which is truncated until the line fits into `limits.max_bytes`."""
    line = encode(event)
    room = limits.max_bytes
    # The loop ends at 0: type and source alone can exceed 1 KiB, and are not truncated further.
    while len(line) > limits.max_bytes and room:
        room //= 2
        event.message = to_text(event.message, room // 2)
        event.details = sanitize(event.details, room // 2, limits.allowed_keys)
        line = encode(event)
    return line


def severity_of(value: Any) -> str | None:
    """Return the severity for a name that any library uses, or for a `logging` level; None if it is unknown."""
    if is_a(value, str):
        name = str.__str__(value).strip().lower()
        return SEVERITY_NAMES.get(name)
    if is_a(value, int) and type(value) is not bool:
        return SEVERITIES[min(max(int(value) // 10 - 2, 0), 3)]
    return None


def _as_fields(details: Any) -> dict[Any, Any]:
    if details is None:
        return {}
    try:
        return dict(details) if isinstance(details, Mapping) else {"value": details}
    except Exception:  # noqa: BLE001 -- a Mapping of the application may do anything
        return {"value": details}


def _as_utc(value: Any) -> datetime | None:
    """Return a datetime, an ISO 8601 string or seconds since 1970 as a time in UTC; None for any other value."""
    try:
        if isinstance(value, datetime):
            value = value.isoformat()  # msgspec accepts no subclass, such as those of pandas and freezegun
        time = msgspec.convert(value, datetime, strict=False)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except Exception:  # noqa: BLE001 -- a tzinfo of the application may do anything; years are limited to 1..9999
        return None


def cut(value: Any, max_chars: int) -> str:
    """Return `value` as a name of at most `max_chars` characters, without surrounding space; "" for None."""
    if value is None:
        return ""
    if type(value) is str and len(value) <= max_chars and value.isalnum():
        return value
    return to_text(value, max_chars * 4).strip()[:max_chars].rstrip()

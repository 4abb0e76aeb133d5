"""Forgiving at the door: any arguments at all go in, an event within the limits of `wire` comes out, then its line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from brain_events._record.exception import describe_exception
from brain_events._record.sanitize import is_a, sanitize, to_text
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SOURCE_MAX_CHARS, Event

_ALIASES = dict.fromkeys(("trace", "debug", "notset", "notice", "success"), "info") | {
    "warn": "warning",
    "err": "error",
    "exception": "error",
    "fatal": "critical",
    "alert": "critical",
    "emergency": "critical",
    "panic": "critical",
}

encode = msgspec.json.Encoder().encode


def make_event(
    event_type: Any,
    severity: Any,
    message: Any,
    details: Any,
    source: Any,
    timestamp: Any,
    exc_info: Any,
    max_bytes: int,
    allowed_keys: frozenset[str] = frozenset(),
) -> Event:
    """Return the valid event that these arguments come closest to; what had to be changed is kept in its details."""
    fields = _as_fields(details)
    known = severity_of(severity)
    if known is None:
        fields["severity_given"] = to_text(severity, 100)
    moment = datetime.now(UTC) if timestamp is None else _moment_of(timestamp)
    if moment is None:
        fields["timestamp_given"] = to_text(timestamp, 100)
    if exc_info is not None and exc_info is not False and (exception := describe_exception(exc_info)):
        fields["exception"] = exception
    return Event(
        event_type=cut(event_type, EVENT_TYPE_MAX_CHARS) or "unspecified",
        severity=known or "error",
        message=to_text(message, max_bytes // 2),
        details=sanitize(fields, max_bytes, allowed_keys) if fields else None,
        source=cut(source, SOURCE_MAX_CHARS) or None,
        timestamp=moment or datetime.now(UTC),
    )


def encode_event(event: Event, max_bytes: int, allowed_keys: frozenset[str] = frozenset()) -> bytes:
    """Return the line of `event`, truncated until it fits into `max_bytes`."""
    line = encode(event)
    room = max_bytes
    while len(line) > max_bytes and room:  # without message and details, type and source alone may be over 1 KiB
        room //= 2
        event.message = to_text(event.message, room // 2)
        event.details = sanitize(event.details, room // 2, allowed_keys)
        line = encode(event)
    return line


def severity_of(given: Any) -> str | None:
    """Return the severity that a name of any library, or a number of `logging`, stands for; None if it is unknown."""
    if is_a(given, str):
        name = str.__str__(given).strip().lower()
        return name if name in SEVERITIES else _ALIASES.get(name)
    if is_a(given, int) and type(given) is not bool:
        return SEVERITIES[min(max(int(given) // 10 - 2, 0), 3)]
    return None


def _as_fields(details: Any) -> dict[Any, Any]:
    if details is None:
        return {}
    try:
        return dict(details) if isinstance(details, Mapping) else {"value": details}
    except Exception:  # noqa: BLE001 -- a Mapping of the application may do anything
        return {"value": details}


def _moment_of(given: Any) -> datetime | None:
    """Return a datetime, an ISO 8601 string or seconds since 1970 as a time in UTC; None for anything else."""
    try:
        if isinstance(given, datetime):
            given = given.isoformat()  # msgspec takes no subclass, such as pandas' or freezegun's
        moment = msgspec.convert(given, datetime, strict=False)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except Exception:  # noqa: BLE001 -- a tzinfo of the application may do anything; years end at 1 and 9999
        return None


def cut(given: Any, max_chars: int) -> str:
    """Return `given` as a name of at most `max_chars` characters, without space around it; "" for None."""
    if given is None:
        return ""
    if type(given) is str and len(given) <= max_chars and given.isalnum():
        return given
    return to_text(given, max_chars * 4).strip()[:max_chars].rstrip()

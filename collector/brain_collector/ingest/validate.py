"""Strict validation of one event: checks every field, and translates what other senders write.

Lines that the fast path cannot guarantee come here: invalid ones, and those of programs that name severities in
another way, send timestamps as numbers, or have fields of their own. Only a refusal may be slow.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from brain_collector.errors import FieldError
from brain_collector.ingest.details_limits import (
    Constant,
    Number,
    check_value,
    child_pointer,
    details_limits,
    parse_exactly,
    reject_keys,
)
from brain_collector.ingest.limits import EventRejected, Limits, reject
from brain_collector.ingest.members import add_field, add_fields, add_members, add_note
from brain_collector.ingest.plain import Moment, PlainEvent
from brain_collector.ingest.storable import storable
from brain_collector.ingest.timestamps import has_leap_second, timestamp_of
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SEVERITY_NAMES, SOURCE_MAX_CHARS

READ_ONLY: Final = frozenset({"id", "created_at", "matches", "matches_cut"})
ADJUSTED_TEXT: Final = "_adjusted_text"
ADJUSTED_TIMESTAMP: Final = "_adjusted_timestamp"
ADJUSTED_SOURCE: Final = "_adjusted_source"
"""Keys in the details of an event that is not stored as it was sent; they are part of the API."""
SEVERITY_GIVEN: Final = "severity_given"
"""The details key of a severity that was translated; the SDK uses it for a severity that it does not know."""

KNOWN: Final = PlainEvent.__struct_fields__

Fields = dict[str, msgspec.Raw]

_fields: Final = msgspec.json.Decoder(Fields)
_text_of: Final = msgspec.json.Decoder(str).decode
_moment_of: Final = msgspec.json.Decoder(Moment).decode
_NOT_JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class ValidEvent(NamedTuple):
    """A valid event, its details as JSON text, and whether it differs from what was sent; the details then say so."""

    event: PlainEvent
    details: str | None
    is_adjusted: bool


def validate(line: bytes, limits: Limits, *, has_doubtful_details: bool = False) -> ValidEvent:
    """Return the event of a line; its details are doubtful if the fast check of their limits has not let them pass.

    Raises:
        EventRejected: the event is invalid; the error lists every invalid field.
    """
    text, fields = _parse(line, limits)
    if len(fields) > limits.details_keys + len(_KNOWN | READ_ONLY):
        reject_keys(limits)  # all but these would become details; here before each of them costs time
    unknown = {} if fields.keys() <= _KNOWN else _unknown_fields(fields)
    return _check(
        fields, unknown, limits, len(text), is_replaced=text is not line, has_doubtful_details=has_doubtful_details
    )


def validate_changes(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return the fields of a partial update that are present, with details as JSON text.

    Raises:
        EventRejected: the update is invalid; the error lists every invalid field.
    """
    text, fields = _parse(body, limits)
    unknown = [name for name in fields if name not in KNOWN and name not in READ_ONLY]
    if unknown:
        reject(f"/{unknown[0]}", "field_unknown", f"{unknown[0][:40]} is not a field; known: {', '.join(KNOWN)}")
    event, details, _ = _check({**_ABSENT, **fields}, {}, limits, len(text), is_replaced=text is not body)
    changes = {name: getattr(event, name) for name in KNOWN if name in fields}
    return {**changes, "details": details} if "details" in fields else changes


def _parse(line: bytes, limits: Limits) -> tuple[bytes, Fields]:
    """Return the line with text that Postgres can store, and its fields."""
    if len(line) > limits.event_bytes:
        reject("", "event_too_large", f"the event is {len(line):,} bytes, the maximum is {limits.event_bytes:,}")
    text = storable(line)
    if len(text) > limits.event_bytes:
        detail = (
            f"the event is {len(text):,} bytes after invalid UTF-8 was replaced, the maximum is {limits.event_bytes:,}"
        )
        reject("", "event_too_large", detail)
    try:
        return text, _fields.decode(text)
    except _NOT_JSON_ERRORS as error:
        _explain(text, limits)
        reject("", "not_json", f"the event is not valid JSON: {error}")


def _explain(text: bytes, limits: Limits) -> None:
    """Reject a line that is not a JSON object, with the reason."""
    if not text.strip():
        reject("", "not_json", "the body is empty; send an event as JSON")
    fields = parse_exactly(text.decode())
    if not isinstance(fields, dict):
        reject("", "not_an_object", f"an event must be a JSON object, this is {_describe(fields)}")
    for name, value in fields.items():
        check_value(value, child_pointer("", name), limits, len(text))


def _unknown_fields(fields: Fields) -> Fields:
    """Return the fields that are not those of an event.

    An event that a collector returned has fields which are the collector's own; they are left out.
    """
    ignored = READ_ONLY if {"id", "created_at"} <= fields.keys() else frozenset[str]()
    return {name: value for name, value in fields.items() if name not in _KNOWN and name not in ignored}


def _check(
    fields: Fields,
    unknown: Fields,
    limits: Limits,
    event_bytes: int,
    *,
    is_replaced: bool,
    has_doubtful_details: bool = False,
) -> ValidEvent:
    given = _syslog_number(fields) or _text(fields, "severity", None, required=True)
    sent_at, timestamp = _timestamp(fields)
    values: list[Any] = [
        _text(fields, "event_type", EVENT_TYPE_MAX_CHARS, required=True, minimum=1),
        _severity(given) if isinstance(given, str) else given,
        _text(fields, "message", None, required=True),
        _text(fields, "source", SOURCE_MAX_CHARS),
        _details(fields),
        timestamp,
    ]
    if errors := [value for value in values if isinstance(value, FieldError)]:
        raise EventRejected(*errors)
    event_type, severity, message, source, details, timestamp = values
    if given != severity and str(given).strip().lower() != severity:
        unknown = add_field(unknown, SEVERITY_GIVEN, fields["severity"])
    if unknown:
        details = add_fields(details, unknown)
    if details is not None:
        details_limits(limits).check(details, event_bytes, is_doubtful=has_doubtful_details)
    if is_replaced:
        details = add_members(details, {ADJUSTED_TEXT: "true"})
    if is_leap := has_leap_second(sent_at):
        details = add_note(details, ADJUSTED_TIMESTAMP, sent_at)
    event = PlainEvent(event_type, severity, message, source=source, timestamp=timestamp)
    return ValidEvent(event, details, is_replaced or is_leap)


def _text(
    fields: Fields, name: str, maximum: int | None, *, required: bool = False, minimum: int = 0
) -> str | FieldError | None:
    raw = fields.get(name)
    if raw is None:
        return FieldError(f"/{name}", "field_missing", f"{name} is missing") if required else None
    try:
        value = _text_of(raw)
    except _NOT_JSON_ERRORS:
        if _as_text(raw) == "null" and not required:
            return None
        return FieldError(f"/{name}", "field_type", f"{name} is {_describe(_value_of(raw))}, must be a string")
    if len(value) < minimum:
        return FieldError(f"/{name}", "field_empty", f"{name} is empty")
    if maximum is not None and len(value) > maximum:
        detail = f"{name} has {len(value):,} characters, the maximum is {maximum}"
        return FieldError(f"/{name}", "field_too_long", detail)
    return value


def _syslog_number(fields: Fields) -> str | None:
    """Return the severity if it is a number of syslog; libraries do not agree on other numbers."""
    text = _as_text(fields["severity"]) if "severity" in fields else ""
    return text if text.isdecimal() and text in SEVERITY_NAMES else None


def _severity(name: str) -> str | FieldError:
    severity = SEVERITY_NAMES.get(name) or SEVERITY_NAMES.get(name.strip().lower())
    if severity is None:
        known = f"{', '.join(SEVERITIES)}, or a name of syslog or logging, such as err or debug"
        return FieldError("/severity", "severity_unknown", f"severity is {name[:30]!r}, must be one of {known}")
    return severity


def _details(fields: Fields) -> str | FieldError | None:
    raw = fields.get("details")
    if raw is None:
        return None
    text = _as_text(raw)
    if text == "null":
        return None
    if text[0] == "{":
        return text
    return FieldError("/details", "field_type", f"details is {_describe(_value_of(raw))}, must be an object")


def _timestamp(fields: Fields) -> tuple[str, datetime | FieldError | None]:
    """Return what the timestamp means, and its text if it is not RFC 3339 without a leap second."""
    raw = fields.get("timestamp")
    if raw is None or (text := _as_text(raw)) == "null":
        return "", None
    if text[0] == '"':
        with suppress(*_NOT_JSON_ERRORS):
            return "", _moment_of(raw)
        text = _text_of(raw)
    moment = None if text[0:1] in _NO_TIMESTAMP else timestamp_of(text)
    if moment is not None:
        return text, moment
    value = _value_of(raw)
    described = repr(value)[:40] if type(value) is str else _describe(value)
    expected = "RFC 3339, such as 2026-01-02T23:45:12Z, or a time since 1970 in s, ms, us or ns"
    return "", FieldError("/timestamp", "timestamp_invalid", f"timestamp is {described}, must be {expected}")


def _as_text(raw: msgspec.Raw) -> str:
    return str(raw, "utf-8")


def _value_of(raw: msgspec.Raw) -> Any:
    return parse_exactly(_as_text(raw))


def _describe(value: Any) -> str:
    """Describe a value for an error; show it if it is short."""
    match value:
        case dict() | list():
            return "an object" if isinstance(value, dict) else "an array"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case Number():
            return f"the number {value[:20]}"
        case Constant():
            return f"{value}, which is not a JSON number"
        case _:
            return f"the string {value[:20]!r}{'...' * (len(value) > 20)}"


_KNOWN: Final = frozenset(KNOWN)
_NO_TIMESTAMP: Final = ("{", "[", "t", "f", "")
_ABSENT: Final = {
    name: msgspec.Raw(value) for name, value in {"event_type": b'"-"', "severity": b'"info"', "message": b'""'}.items()
}

"""Strict validation of one event: checks every field, and replaces and notes text that Postgres rejects.

Only lines that the fast path cannot guarantee come here, so this may be slow, but it must be exact.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from brain_collector.errors import FieldError
from brain_collector.schema import EventCreate
from brain_events.wire import (
    DETAILS_KEY_MAX_CHARS,
    DETAILS_MAX_KEYS,
    EVENT_TYPE_MAX_CHARS,
    SEVERITIES,
    SOURCE_MAX_CHARS,
)

READ_ONLY: Final = frozenset({"id", "created_at", "matches"})
REPLACEMENT: Final = "\ufffd"
ADJUSTED_TEXT: Final = "_adjusted_text"
ADJUSTED_TIMESTAMP: Final = "_adjusted_timestamp"
ADJUSTED_SOURCE: Final = "_adjusted_source"
"""Keys in the details of an event that is not stored as it was sent; they are part of the API."""

EXPONENTS: Final = range(-324, 309)
"""The exponents of doubles (IEEE 754); the smallest positive one is 5e-324."""
MAX_DIGITS: Final = 1_000  # clients in Python can read at most 4,300

MAX_POINTER_CHARS: Final = 200

_LEAP_SECOND: Final = re.compile(r"(?<=[Tt ]\d\d:59):60")
_BELOW_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode  # numbers keep every digit


class Limits(NamedTuple):
    """Limits of an event: its size as JSON, the depth and keys of its details; and of the events in a batch."""

    event_bytes: int
    details_depth: int
    batch_events: int = 10_000
    details_keys: int = DETAILS_MAX_KEYS
    key_chars: int = DETAILS_KEY_MAX_CHARS


class EventRejected(Exception):  # noqa: N818 - an outcome
    """The event is invalid; `errors` has at least one entry."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors[0].detail)
        self.errors = list(errors)


def reject(pointer: str, code: str, detail: str) -> NoReturn:
    """Raise `Refused` with one error."""
    raise EventRejected(FieldError(pointer, code, detail))


class ValidEvent(NamedTuple):
    """A valid event, its details as JSON text, and whether it differs from what was sent; the details then say so."""

    event: EventCreate
    details: str | None
    is_adjusted: bool


def validate(line: bytes, limits: Limits) -> ValidEvent:
    """Return the event of a line.

    Raises:
        EventRejected: the event is invalid; the error lists every invalid field.
    """
    return _check(_parse(line, limits), limits, is_replaced=not _is_utf8(line))


def validate_changes(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return the fields of a partial update that are present, with details as JSON text.

    Raises:
        EventRejected: the update is invalid; the error lists every invalid field.
    """
    fields = _parse(body, limits)
    known = EventCreate.__struct_fields__
    unknown = [name for name in fields if name not in known and name not in READ_ONLY]
    if unknown:
        reject(f"/{unknown[0]}", "field_unknown", f"{unknown[0][:40]} is not a field; known: {', '.join(known)}")
    required = {"event_type": "-", "severity": "info", "message": ""}
    event, details, _ = _check({**required, **fields}, limits, is_replaced=not _is_utf8(body))
    changes = {name: getattr(event, name) for name in known if name in fields}
    return {**changes, "details": details} if "details" in fields else changes


def _check(fields: dict[str, Any], limits: Limits, *, is_replaced: bool) -> ValidEvent:
    values: list[Any] = [
        _text(fields, "event_type", EVENT_TYPE_MAX_CHARS, required=True, minimum=1),
        _severity(fields),
        _text(fields, "message", None, required=True),
        _text(fields, "source", SOURCE_MAX_CHARS),
        _details(fields),
        _timestamp(fields),
    ]
    errors = [value for value in values if isinstance(value, FieldError)]
    if errors:
        raise EventRejected(*errors)
    cleaner = _Cleaner(limits)
    event_type, severity, message, source = map(cleaner.text, values[:4])
    details, timestamp = cleaner.clean(values[4], "/details"), values[5]
    notes: dict[str, Any] = {}
    if cleaner.has_replaced or is_replaced:
        notes[ADJUSTED_TEXT] = True
    if timestamp is not None and _LEAP_SECOND.search(fields["timestamp"]):
        notes[ADJUSTED_TIMESTAMP] = fields["timestamp"]
    if notes:
        details = {**(details or {}), **notes}
    text = None if details is None else _encode(details).decode()
    return ValidEvent(EventCreate(event_type, severity, message, source=source, timestamp=timestamp), text, bool(notes))


class _Cleaner:
    """Walks through a value: replaces text that Postgres rejects, and rejects details that exceed a limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.has_replaced = False
        self.n_keys = 0

    def clean(self, value: Any, pointer: str, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, _InvalidNumber):
            reject(pointer, value.code, value.detail)
        if not isinstance(value, dict | list):
            return value
        if depth >= self.limits.details_depth:
            reject(pointer, "too_deep", f"details are nested deeper than {self.limits.details_depth} levels")
        if isinstance(value, dict):
            return {
                self._key(key, pointer): self.clean(item, _child_pointer(pointer, key), depth + 1)
                for key, item in value.items()
            }
        return [self.clean(item, _child_pointer(pointer, str(index)), depth + 1) for index, item in enumerate(value)]

    def text(self, text: Any) -> Any:
        if text is None or ("\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)):
            return text
        self.has_replaced = True
        text = text.replace("\0", REPLACEMENT)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _key(self, key: str, pointer: str) -> Any:
        self.n_keys += 1
        if self.n_keys > self.limits.details_keys:
            reject("/details", "too_many_keys", f"details have more than {self.limits.details_keys:,} keys")
        if len(key) > self.limits.key_chars:
            detail = (
                f"the details key {key[:20]!r}... has {len(key):,} characters, the maximum is {self.limits.key_chars:,}"
            )
            reject(pointer, "key_too_long", detail)
        return self.text(key)


def _child_pointer(pointer: str, key: str) -> str:
    """Return the JSON pointer to a child (RFC 6901), or the pointer itself if that would be too long."""
    step = key.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{step}" if len(pointer) + len(step) < MAX_POINTER_CHARS and step.isprintable() else pointer


def _parse(line: bytes, limits: Limits) -> dict[str, Any]:
    if len(line) > limits.event_bytes:
        reject("", "event_too_large", f"the event is {len(line):,} bytes, the maximum is {limits.event_bytes:,}")
    if not line.strip():
        reject("", "not_json", "the body is empty; send an event as JSON")
    try:
        fields = json.loads(
            line.decode("utf-8", "replace"),
            parse_constant=_reject_constant,
            parse_float=parse_number,
            parse_int=parse_number,
        )
    except RecursionError:
        reject("", "too_deep", "the event is nested too deeply")
    except ValueError as error:
        reject("", "not_json", f"the event is not valid JSON: {error}")
    if not isinstance(fields, dict):
        reject("", "not_an_object", f"an event must be a JSON object, this is {_describe(fields)}")
    return fields


class _InvalidNumber(NamedTuple):
    """A value that is not a JSON number, or is out of range; rejected where its JSON pointer is known."""

    code: str
    detail: str


def _reject_constant(name: str) -> _InvalidNumber:
    return _InvalidNumber("not_a_number", f"{name} is not a JSON number; send null, or a string")


def parse_number(text: str) -> int | Decimal | _InvalidNumber:
    """Return a JSON number exactly. Postgres would store `1e131071`, but print it with all its digits: reject it."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > MAX_DIGITS:
        return _InvalidNumber(
            "number_out_of_range", f"a number has {len(text):,} characters, the maximum is {MAX_DIGITS:,} digits"
        )
    if int(exponent or 0) not in EXPONENTS:
        detail = f"the number {text[:20]}{'...' * (len(text) > 20)} is out of range: exponents are from -324 to 308"
        return _InvalidNumber("number_out_of_range", detail)
    return int(text) if mantissa == text and "." not in text and len(text) < 19 else Decimal(text)


def _text(
    fields: dict[str, Any], name: str, maximum: int | None, *, required: bool = False, minimum: int = 0
) -> str | FieldError | None:
    value = fields.get(name)
    pointer = f"/{name}"
    if value is None and not required:
        return None
    if name not in fields:
        return FieldError(pointer, "field_missing", f"{name} is missing")
    if not isinstance(value, str):
        return FieldError(pointer, "field_type", f"{name} is {_describe(value)}, must be a string")
    if len(value) < minimum:
        return FieldError(pointer, "field_empty", f"{name} is empty")
    if maximum is not None and len(value) > maximum:
        return FieldError(pointer, "field_too_long", f"{name} has {len(value):,} characters, the maximum is {maximum}")
    return value


def _severity(fields: dict[str, Any]) -> str | FieldError | None:
    value = _text(fields, "severity", None, required=True)
    if isinstance(value, str) and value not in SEVERITIES:
        known = ", ".join(SEVERITIES)
        return FieldError("/severity", "severity_unknown", f"severity is {value[:30]!r}, must be one of {known}")
    return value


def _details(fields: dict[str, Any]) -> dict[str, Any] | FieldError | None:
    value = fields.get("details")
    if value is None or isinstance(value, dict):
        return value
    return FieldError("/details", "field_type", f"details is {_describe(value)}, must be an object")


def _timestamp(fields: dict[str, Any]) -> datetime | FieldError | None:
    value = fields.get("timestamp")
    if value is None:
        return None
    moment = _moment(value) if isinstance(value, str) else None
    if moment is None:
        described = repr(value)[:40] if isinstance(value, str) else _describe(value)
        return FieldError(
            "/timestamp",
            "timestamp_invalid",
            f"timestamp is {described}, must be RFC 3339, such as 2026-01-02T23:45:12Z",
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(text: str) -> datetime | None:
    """Parse a timestamp; a leap second becomes the first second of the next minute; microseconds are the precision."""
    try:
        plain = _BELOW_MICROSECONDS.sub(r"\1", text, count=1)
        if _LEAP_SECOND.search(plain):
            return msgspec.convert(_LEAP_SECOND.sub(":59", plain), datetime) + timedelta(seconds=1)
        return msgspec.convert(plain, datetime)
    except (msgspec.ValidationError, UnicodeEncodeError, OverflowError):
        return None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _describe(value: Any) -> str:
    """Describe a value for an error; show it if it is short."""
    match value:
        case dict() | list():
            return "an object" if isinstance(value, dict) else "an array"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return f"the string {value[:20]!r}{'...' * (len(value) > 20)}"
        case _InvalidNumber():
            return "an invalid number, or one out of range"
        case _:
            return f"the number {str(value)[:20]}"

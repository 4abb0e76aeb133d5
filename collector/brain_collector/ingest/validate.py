"""The strict way to read one event: every field checked by name, text that Postgres refuses replaced and flagged.

Only lines that the fast way cannot vouch for come here, so it may be slow; it must be exact.
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
"""What details say of an event that is not stored as it was sent; part of the API (docs/reference/http-api.md)."""

EXPONENTS: Final = range(-324, 309)
"""Of every double (IEEE 754), the least being 5e-324."""
MAX_DIGITS: Final = 1_000  # Python's own limit for those who read them is 4,300

MAX_POINTER_CHARS: Final = 200

_LEAP_SECOND: Final = re.compile(r"(?<=[Tt ]\d\d:59):60")
_BELOW_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode  # numbers keep every digit


class Limits(NamedTuple):
    """What an event may measure: as JSON, its details in levels, in keys, and a key; and how many make a batch."""

    event_bytes: int
    details_depth: int
    batch_events: int = 10_000
    details_keys: int = DETAILS_MAX_KEYS
    key_chars: int = DETAILS_KEY_MAX_CHARS


class Refused(Exception):  # noqa: N818 - it is an outcome, not a fault of ours
    """The event is not valid; `errors` has at least one entry."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors[0].detail)
        self.errors = list(errors)


def refuse(pointer: str, code: str, detail: str) -> NoReturn:
    """Raise `Refused` with one error."""
    raise Refused(FieldError(pointer, code, detail))


class Checked(NamedTuple):
    """An event, its details as JSON text, and whether it is not quite what was sent; then the details say so."""

    event: EventCreate
    details: str | None
    adjusted: bool


def validate(line: bytes, limits: Limits) -> Checked:
    """Return the event of a line.

    Raises:
        Refused: it is not valid; every field at fault is named.
    """
    return _checked(_parse(line, limits), limits, replaced=not _is_utf8(line))


def validate_changes(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return the fields of a partial update that are there; details as JSON text.

    Raises:
        Refused: it is not valid; every field at fault is named.
    """
    given = _parse(body, limits)
    known = EventCreate.__struct_fields__
    unknown = [name for name in given if name not in known and name not in READ_ONLY]
    if unknown:
        refuse(f"/{unknown[0]}", "field_unknown", f"{unknown[0][:40]} is no field; there are {', '.join(known)}")
    unchanged = {"event_type": "-", "severity": "info", "message": ""}
    event, details, _ = _checked({**unchanged, **given}, limits, replaced=not _is_utf8(body))
    changes = {name: getattr(event, name) for name in EventCreate.__struct_fields__ if name in given}
    return {**changes, "details": details} if "details" in given else changes


def _checked(fields: dict[str, Any], limits: Limits, *, replaced: bool) -> Checked:
    checked: list[Any] = [
        _text(fields, "event_type", EVENT_TYPE_MAX_CHARS, required=True, minimum=1),
        _severity(fields),
        _text(fields, "message", None, required=True),
        _text(fields, "source", SOURCE_MAX_CHARS),
        _details(fields),
        _timestamp(fields),
    ]
    errors = [value for value in checked if isinstance(value, FieldError)]
    if errors:
        raise Refused(*errors)
    cleaner = _Cleaner(limits)
    event_type, severity, message, source = map(cleaner.text, checked[:4])
    details, timestamp = cleaner.clean(checked[4], "/details"), checked[5]
    notes: dict[str, Any] = {}
    if cleaner.replaced or replaced:
        notes[ADJUSTED_TEXT] = True
    if timestamp is not None and _LEAP_SECOND.search(fields["timestamp"]):
        notes[ADJUSTED_TIMESTAMP] = fields["timestamp"]
    if notes:
        details = {**(details or {}), **notes}
    text = None if details is None else _encode(details).decode()
    return Checked(EventCreate(event_type, severity, message, source=source, timestamp=timestamp), text, bool(notes))


class _Cleaner:
    """Goes through a value: what Postgres refuses in text is replaced, what is beyond the limits of details refused."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.replaced = False
        self.keys = 0

    def clean(self, value: Any, pointer: str, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, _NoNumber):
            refuse(pointer, value.code, value.detail)
        if not isinstance(value, dict | list):
            return value
        if depth >= self.limits.details_depth:
            refuse(pointer, "too_deep", f"details are nested deeper than {self.limits.details_depth} levels")
        if isinstance(value, dict):
            return {
                self._key(key, pointer): self.clean(item, _below(pointer, key), depth + 1)
                for key, item in value.items()
            }
        return [self.clean(item, _below(pointer, str(index)), depth + 1) for index, item in enumerate(value)]

    def text(self, text: Any) -> Any:
        if text is None or ("\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)):
            return text
        self.replaced = True
        text = text.replace("\0", REPLACEMENT)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _key(self, key: str, pointer: str) -> Any:
        self.keys += 1
        if self.keys > self.limits.details_keys:
            refuse("/details", "too_many_keys", f"details have more than {self.limits.details_keys:,} keys")
        if len(key) > self.limits.key_chars:
            said = f"the key {key[:20]!r}... is {len(key):,} characters, at most {self.limits.key_chars:,}"
            refuse(pointer, "key_too_long", said)
        return self.text(key)


def _below(pointer: str, key: str) -> str:
    """Return the pointer one step further (RFC 6901); one that would be long stays at what holds the rest."""
    step = key.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{step}" if len(pointer) + len(step) < MAX_POINTER_CHARS and step.isprintable() else pointer


def _parse(line: bytes, limits: Limits) -> dict[str, Any]:
    if len(line) > limits.event_bytes:
        refuse("", "event_too_large", f"the event is {len(line):,} bytes, at most {limits.event_bytes:,}")
    if not line.strip():
        refuse("", "not_json", "the body is empty; send an event as JSON")
    try:
        fields = json.loads(
            line.decode("utf-8", "replace"), parse_constant=_no_number, parse_float=number, parse_int=number
        )
    except RecursionError:
        refuse("", "too_deep", "the event is nested too deeply")
    except ValueError as error:
        refuse("", "not_json", f"the event is no JSON: {error}")
    if not isinstance(fields, dict):
        refuse("", "not_an_object", f"an event is a JSON object, this is {_shown(fields)}")
    return fields


class _NoNumber(NamedTuple):
    """What stands where a number should, or one that is out of range; refused where the pointer to it is known."""

    code: str
    detail: str


def _no_number(name: str) -> _NoNumber:
    return _NoNumber("not_a_number", f"{name} is no JSON number; send null, or text")


def number(text: str) -> int | Decimal | _NoNumber:
    """Return a JSON number exactly; jsonb would keep `1e131071`, and print it with all its digits."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > MAX_DIGITS:
        return _NoNumber("number_out_of_range", f"a number has {len(text):,} characters, at most {MAX_DIGITS:,} digits")
    if int(exponent or 0) not in EXPONENTS:
        detail = f"the number {text[:20]}{'...' * (len(text) > 20)} is out of range: exponents go from -324 to 308"
        return _NoNumber("number_out_of_range", detail)
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
        return FieldError(pointer, "field_type", f"{name} is {_shown(value)}, must be a string")
    if len(value) < minimum:
        return FieldError(pointer, "field_empty", f"{name} is empty")
    if maximum is not None and len(value) > maximum:
        return FieldError(pointer, "field_too_long", f"{name} is {len(value):,} characters, at most {maximum}")
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
    return FieldError("/details", "field_type", f"details is {_shown(value)}, must be an object")


def _timestamp(fields: dict[str, Any]) -> datetime | FieldError | None:
    value = fields.get("timestamp")
    if value is None:
        return None
    moment = _moment(value) if isinstance(value, str) else None
    if moment is None:
        shown = repr(value)[:40] if isinstance(value, str) else _shown(value)
        return FieldError(
            "/timestamp", "timestamp_invalid", f"timestamp is {shown}, must be RFC 3339, as 2026-01-02T23:45:12Z"
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(text: str) -> datetime | None:
    """Read a moment; a leap second is the first of the next minute, what is below microseconds is cut off."""
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


def _shown(value: Any) -> str:
    """Name what a value is; short ones are shown."""
    match value:
        case dict() | list():
            return "an object" if isinstance(value, dict) else "an array"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return f"the string {value[:20]!r}{'...' * (len(value) > 20)}"
        case _NoNumber():
            return "no number that JSON has, or one out of range"
        case _:
            return f"the number {str(value)[:20]}"

"""The strict way to read one event: every field checked by name, text that Postgres refuses replaced and flagged.

Only lines that the fast way cannot vouch for come here, so it may be slow; it must be exact.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from brain_collector.errors import FieldError
from brain_collector.schema import EventCreate
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SOURCE_MAX_CHARS

READ_ONLY: Final = frozenset({"id", "created_at"})
REPLACEMENT: Final = "\ufffd"


class Limits(NamedTuple):
    """What an event may measure, `event_bytes` as JSON and `details_depth` in levels, and how many make a batch."""

    event_bytes: int
    details_depth: int
    batch_events: int = 10_000


class Refused(Exception):  # noqa: N818 - it is an outcome, not a fault of ours
    """The event is not valid; `errors` has at least one entry."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors[0].detail)
        self.errors = list(errors)


def refuse(pointer: str, code: str, detail: str) -> NoReturn:
    """Raise `Refused` with one error."""
    raise Refused(FieldError(pointer, code, detail))


def validate(line: bytes, limits: Limits) -> tuple[EventCreate, str | None]:
    """Return the event of a line and its details as JSON text.

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
    event, details = _checked({**unchanged, **given}, limits, replaced=not _is_utf8(body))
    changes = {name: getattr(event, name) for name in EventCreate.__struct_fields__ if name in given}
    return {**changes, "details": details} if "details" in given else changes


def _checked(fields: dict[str, Any], limits: Limits, *, replaced: bool) -> tuple[EventCreate, str | None]:
    checked = [
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
    cleaner = _Cleaner(limits.details_depth)
    event_type, severity, message, source, details, timestamp = map(cleaner.clean, checked)
    if cleaner.replaced or replaced:
        details = {**(details or {}), "_adjusted_text": True}
    text = None if details is None else json.dumps(details, ensure_ascii=False, separators=(",", ":"))
    return EventCreate(event_type, severity, message, source=source, timestamp=timestamp), text


class _Cleaner:
    """Replaces NUL and halves of surrogate pairs, which Postgres refuses, in all text of a value."""

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        self.replaced = False

    def clean(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, dict | list):
            return value
        if depth >= self.max_depth:
            refuse("/details", "too_deep", f"details are nested deeper than {self.max_depth} levels")
        if isinstance(value, dict):
            return {self._text(key): self.clean(item, depth + 1) for key, item in value.items()}
        return [self.clean(item, depth + 1) for item in value]

    def _text(self, text: str) -> str:
        if "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        self.replaced = True
        text = text.replace("\0", REPLACEMENT)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parse(line: bytes, limits: Limits) -> dict[str, Any]:
    if len(line) > limits.event_bytes:
        refuse("", "event_too_large", f"the event is {len(line):,} bytes, at most {limits.event_bytes:,}")
    if not line.strip():
        refuse("", "not_json", "the body is empty; send an event as JSON")
    try:
        fields = json.loads(
            line.decode("utf-8", "replace"), parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except RecursionError:
        refuse("", "too_deep", "the event is nested too deeply")
    except ValueError as error:
        refuse("", "not_json", f"the event is no JSON: {error}")
    if not isinstance(fields, dict):
        refuse("", "not_an_object", f"an event is a JSON object, this is {_kind(fields)}")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _integer(text: str) -> int:
    if len(text) > 1000:
        raise ValueError(f"a number of {len(text)} digits is out of range")
    return int(text)


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
        return FieldError(pointer, "field_type", f"{name} is {_kind(value)}, must be a string")
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
    return FieldError("/details", "field_type", f"details is {_kind(value)}, must be an object")


def _timestamp(fields: dict[str, Any]) -> datetime | FieldError | None:
    value = fields.get("timestamp")
    if value is None:
        return None
    try:
        moment = msgspec.convert(value if isinstance(value, str) else None, datetime)
    except (msgspec.ValidationError, UnicodeEncodeError):
        shown = repr(value)[:40]
        return FieldError(
            "/timestamp", "timestamp_invalid", f"timestamp is {shown}, must be RFC 3339, as 2026-01-02T23:45:12Z"
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

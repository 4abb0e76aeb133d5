"""Decoding: bytes in, rows out. Each event is decoded and validated separately, so an invalid one affects no other.

The fast path decodes a batch in one call. If it cannot guarantee that every event is valid (because of a malformed
line, an escape that Postgres rejects, deep details, a large event), the batch is decoded line by line, and doubtful
lines by `validate`.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from brain_collector.errors import BodyTooLarge, BodyUndecodable, EventInvalid
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.validate import (
    ADJUSTED_SOURCE,
    ADJUSTED_TIMESTAMP,
    EXPONENTS,
    MAX_DIGITS,
    READ_ONLY,
    EventRejected,
    Limits,
    ValidEvent,
    validate,
    validate_changes,
)
from brain_collector.schema import EventCreate, EventUpdate
from brain_events.wire import LineError

FUTURE_LIMIT: Final = timedelta(days=1)
EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day after the minimum, because of offsets
OWN_SOURCE: Final = "collector"
"""The source of the collector's own events. In events from clients, `CLIENT_SOURCE` replaces it."""
CLIENT_SOURCE: Final = "client:collector"

_event: Final = msgspec.json.Decoder(EventCreate)
_update: Final = msgspec.json.Decoder(EventUpdate)
_scan: Final = json.JSONDecoder().raw_decode
_WHITESPACE: Final = re.compile(r"[ \t\r\n]*")

_BACKSLASH: Final = 92
_MANY_DIGITS: Final = re.compile(rb"[0.]{%d}" % MAX_DIGITS)
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789E", b"000000000e")
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Decoded(NamedTuple):
    """A decoded batch.

    Attributes:
        received: The number of events in the batch.
        rows: The valid events.
        indexes: The index in the batch of each row.
        errors: The error of each rejected event.
        adjusted: The rows that differ from what was sent.
        rejected_lines: The line of each error.
    """

    received: int
    rows: Rows
    indexes: list[int]
    errors: list[LineError]
    adjusted: set[int]
    rejected_lines: list[bytes]


def decode_ndjson(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode one event per line, skipping blank lines. Events without a timestamp get `now`.

    Raises:
        BodyTooLarge: the batch has more than `batch_events` events.
    """
    if body.count(b"\n") > 2 * limits.batch_events:  # counts blank lines too; before memory is used for any
        raise _too_many(limits)
    lines = body.split(b"\n")
    if max(map(len, lines)) <= limits.event_bytes:
        try:
            events = _event.decode_lines(body)
            if len(events) == len(lines) - (not lines[-1]):  # else a line is blank, or is not one event
                return _decode_fast(events, body, limits, now)
        except _DECODE_ERRORS:
            pass
    return _decode_lines([line for line in lines if line.strip()], limits, now)


def decode_array(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode a JSON array of events.

    Raises:
        BodyUndecodable: the body is not a JSON array.
        BodyTooLarge: the batch has more than `batch_events` events.
    """
    elements = list(islice(_elements(body), limits.batch_events + 1))
    return _decode_lines(elements, limits, now)


def _elements(body: bytes) -> Iterator[bytes]:
    """Yield the elements of an array one by one, so that an array of millions is parsed only up to the limit."""
    text = body.decode("utf-8", "surrogateescape")
    end = _after_whitespace(text, 0)
    if text[end : end + 1] != "[":
        raise BodyUndecodable(
            "the body is not a JSON array of events; enclose the event in [ ], or send it to /api/events"
        )
    end = _after_whitespace(text, end + 1)
    empty = text[end : end + 1] == "]"
    while not empty:
        start = end
        try:
            _, end = _scan(text, start)
        except (ValueError, RecursionError) as error:
            raise BodyUndecodable(f"the body is not a JSON array of events: {error}") from None
        yield text[start:end].encode("utf-8", "surrogateescape")
        end = _after_whitespace(text, end)
        if text[end : end + 1] != ",":
            break
        end = _after_whitespace(text, end + 1)
    if text[end : end + 1] != "]" or _after_whitespace(text, end + 1) != len(text):
        raise BodyUndecodable(f"the body is not a JSON array of events: expected ',' or ']' at character {end}")


def _after_whitespace(text: str, start: int) -> int:
    match = _WHITESPACE.match(text, start)
    assert match is not None
    return match.end()


def _too_many(limits: Limits) -> BodyTooLarge:
    return BodyTooLarge(f"the batch has more than {limits.batch_events:,} events; send smaller batches")


def decode_one(body: bytes, limits: Limits, now: datetime) -> Rows:
    """Decode a single event into one row.

    Raises:
        EventInvalid: the event is invalid; the error lists every invalid field.
    """
    try:
        event, details, _ = _decode_line(body, limits)
    except EventRejected as rejected:
        raise _invalid(rejected) from None
    rows = _rows([event], [details], now)
    _adjust(rows, now)
    return rows


def encode_row(rows: Rows, row: int) -> bytes:
    """Encode a row as an event in JSON."""
    event_type, severity, message, details, source, timestamp = rows.take([row])
    return msgspec.json.encode(
        {
            "event_type": event_type[0],
            "severity": severity[0],
            "message": message[0],
            "details": msgspec.Raw(details[0] or "null"),
            "source": source[0],
            "timestamp": timestamp[0],
        }
    )


def decode_changes(body: bytes, limits: Limits) -> dict[str, Any]:
    """Decode a partial update into the fields that are present, with details as JSON text.

    Raises:
        EventInvalid: the event is invalid; the error lists every invalid field.
    """
    try:
        return _changes(_update.decode(body), body, limits)
    except _DECODE_ERRORS:
        pass
    try:
        return validate_changes(body, limits)
    except EventRejected as rejected:
        raise _invalid(rejected) from None


def _changes(update: EventUpdate, body: bytes, limits: Limits) -> dict[str, Any]:
    fields = msgspec.structs.asdict(update).items()
    changes = {name: value for name, value in fields if value is not msgspec.UNSET and name not in READ_ONLY}
    if "details" in changes:
        changes["details"] = _details_text(changes["details"])
    if (
        len(body) > limits.event_bytes
        or _may_have_bad_escapes(body)
        or not _is_within_limits(changes.get("details"), limits)
    ):
        raise msgspec.ValidationError
    return changes


def _invalid(rejected: EventRejected) -> EventInvalid:
    return EventInvalid(_detail(rejected), errors=rejected.errors)


def _detail(rejected: EventRejected) -> str:
    return "; ".join(error.detail for error in rejected.errors)


def _decode_fast(events: list[EventCreate], body: bytes, limits: Limits, now: datetime) -> Decoded:
    details = [_details_text(event.details) for event in events]
    if _may_have_bad_escapes(body) or not all(_is_within_limits(text, limits) for text in details):
        raise msgspec.ValidationError
    if len(events) > limits.batch_events:
        raise _too_many(limits)
    rows = _rows(events, details, now)
    return Decoded(len(events), rows, list(range(len(events))), [], _adjust(rows, now), [])


def _decode_lines(lines: list[bytes], limits: Limits, now: datetime) -> Decoded:
    events: list[ValidEvent] = []
    indexes: list[int] = []
    errors: list[LineError] = []
    rejected_lines: list[bytes] = []
    if len(lines) > limits.batch_events:
        raise _too_many(limits)
    for index, line in enumerate(lines):
        try:
            events.append(_decode_line(line, limits))
        except EventRejected as rejected:
            first = rejected.errors[0]
            errors.append(LineError(index, first.code, _detail(rejected), first.pointer))
            rejected_lines.append(line)
        else:
            indexes.append(index)
    rows = _rows([valid.event for valid in events], [valid.details for valid in events], now)
    adjusted = {row for row, valid in enumerate(events) if valid.is_adjusted} | _adjust(rows, now)
    return Decoded(len(lines), rows, indexes, errors, adjusted, rejected_lines)


def _decode_line(line: bytes, limits: Limits) -> ValidEvent:
    if len(line) <= limits.event_bytes and not _may_have_bad_escapes(line):
        try:
            event = _event.decode(line)
            text = _details_text(event.details)
            if _is_within_limits(text, limits):
                return ValidEvent(event, text, is_adjusted=False)
        except _DECODE_ERRORS:
            pass
    return validate(line, limits)


def _details_text(details: msgspec.Raw) -> str | None:
    if not details:
        return None
    text = str(details, "utf-8")
    return None if text == "null" else text


def _may_have_bad_escapes(body: bytes) -> bool:
    """Return whether escapes may have what Postgres rejects: NUL, or half of a surrogate pair."""
    if _BACKSLASH not in body:  # a memchr; the scans below took 15 % of the time to decode a batch
        return False
    return b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body


def _is_within_limits(details: str | None, limits: Limits) -> bool:
    """Return whether details are an object that is certainly within the limits (brackets bound the depth)."""
    return details is None or (
        details[0] == "{"
        and details.count("{") + details.count("[") <= limits.details_depth
        and (len(details) <= min(limits.key_chars, 4 * limits.details_keys) or _keys_fit(details, limits))
        and not _has_huge_number(details)
    )


def _keys_fit(details: str, limits: Limits) -> bool:
    """Count and measure the keys of details that are long enough to exceed a limit of keys."""
    n_keys = 0
    pending = [_anything.decode(details)]
    for value in pending:
        if type(value) is dict:
            n_keys += len(value)
            if n_keys > limits.details_keys or max(map(len, value), default=0) > limits.key_chars:
                return False
            pending += value.values()
        elif type(value) is list:
            pending += value
    return True


def _has_huge_number(details: str) -> bool:
    """Return whether a number has too many digits, or an exponent out of range.

    Postgres stores `1e131071`, and prints it with all its digits; JSON readers cannot read numbers of many digits. A
    scan for the shape of such a number takes 0.2 us; only what has this shape, as some hexadecimal ids do, is decoded.
    """
    shape = details.encode().translate(_DIGITS_TO_0, b"+-")
    if len(shape) > MAX_DIGITS and _MANY_DIGITS.search(shape):
        return True
    if b"0e000" not in shape:
        return False
    try:
        _numbers.decode(details)
    except _DECODE_ERRORS:
        return True
    return False


def _check_exponent(number: str) -> float:
    if int(number.lower().partition("e")[2] or 0) not in EXPONENTS:
        raise ValueError(number)
    return 0.0


def _rows(events: list[EventCreate], details: list[str | None], now: datetime) -> Rows:
    return Rows(
        [event.event_type for event in events],
        [event.severity for event in events],
        [event.message for event in events],
        details,
        [event.source for event in events],
        [event.timestamp or now for event in events],
    )


def _adjust(rows: Rows, now: datetime) -> set[int]:
    """Replace values that are not stored as sent; return the rows that were changed."""
    return _replace_timestamps(rows, now) | _replace_own_source(rows)


def _replace_own_source(rows: Rows) -> set[int]:
    """Replace the reserved source in events from clients, and note it in their details."""
    if OWN_SOURCE not in rows.sources:
        return set()
    changed = {row for row, source in enumerate(rows.sources) if source == OWN_SOURCE}
    for row in changed:
        rows.details[row] = _with_note(rows.details[row], ADJUSTED_SOURCE, OWN_SOURCE)
        rows.sources[row] = CLIENT_SOURCE
    return changed


def _replace_timestamps(rows: Rows, now: datetime) -> set[int]:
    """Replace timestamps in the future or before the calendar by the arrival time, and note it in the details."""
    latest = now + FUTURE_LIMIT
    if not rows.timestamps or (max(rows.timestamps) <= latest and min(rows.timestamps) >= EARLIEST):
        return set()
    changed = {row for row, moment in enumerate(rows.timestamps) if not EARLIEST <= moment <= latest}
    for row in changed:
        rows.details[row] = _with_note(rows.details[row], ADJUSTED_TIMESTAMP, rows.timestamps[row].isoformat())
        rows.timestamps[row] = now
    return changed


def _with_note(details: str | None, note: str, sent: str) -> str:
    """Insert a note as text: the details may have numbers that Python cannot encode again."""
    members = details.strip()[1:-1].strip() if details else ""
    return f'{{{members}{"," if members else ""}"{note}":"{sent}"}}'


_anything: Final = msgspec.json.Decoder()
_numbers: Final = msgspec.json.Decoder(float_hook=_check_exponent)

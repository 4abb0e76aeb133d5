"""Bytes in, rows out: decode and validate events, each on its own, so a bad one never costs another.

The fast way decodes a whole batch in one call. Whatever it cannot vouch for (a malformed line, an
escape that Postgres refuses, deep details, an oversized event) sends that batch line by line, and
the lines at fault through `validate`.
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
    Checked,
    Limits,
    Refused,
    validate,
    validate_changes,
)
from brain_collector.schema import EventCreate, EventUpdate
from brain_events.wire import LineError

FUTURE_LIMIT: Final = timedelta(days=1)
EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day of room for offsets
OWN_SOURCE: Final = "collector"
"""The source of the collector's own events: who sends it is not the collector, and gets `SENT_SOURCE`."""
SENT_SOURCE: Final = "client:collector"

_event: Final = msgspec.json.Decoder(EventCreate)
_update: Final = msgspec.json.Decoder(EventUpdate)
_scan: Final = json.JSONDecoder().raw_decode
_SPACE: Final = re.compile(r"[ \t\r\n]*")

_BACKSLASH: Final = 92
_MANY_DIGITS: Final = re.compile(rb"[0.]{%d}" % MAX_DIGITS)
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789E", b"000000000e")
_DOUBTFUL: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Decoded(NamedTuple):
    """A batch of `received` events: the valid ones as `rows`, each one's place in the batch, and what is wrong.

    `adjusted` are the rows that are not quite what was sent. `bad` has the line of each error.
    """

    received: int
    rows: Rows
    places: list[int]
    errors: list[LineError]
    adjusted: set[int]
    bad: list[bytes]


def decode_ndjson(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode one event a line; blank lines do not count. Events without a timestamp get `now`.

    Raises:
        BodyTooLarge: there are more than `batch_events`.
    """
    if body.count(b"\n") > 2 * limits.batch_events:  # blank ones included: before memory is spent on any of them
        raise _too_many(limits)
    lines = body.split(b"\n")
    if max(map(len, lines)) <= limits.event_bytes:
        try:
            events = _event.decode_lines(body)
            if len(events) == len(lines) - (not lines[-1]):  # else a line is blank, or holds more or less than one
                return _fast(events, body, limits, now)
        except _DOUBTFUL:
            pass
    return _by_line([line for line in lines if line.strip()], limits, now)


def decode_array(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode a JSON array of events.

    Raises:
        BodyUndecodable: the body is no JSON array.
        BodyTooLarge: there are more than `batch_events`.
    """
    found = list(islice(_elements(body), limits.batch_events + 1))
    return _by_line(found, limits, now)


def _elements(body: bytes) -> Iterator[bytes]:
    """Find the elements of an array one by one, so that one of millions costs no more than one too long."""
    text = body.decode("utf-8", "surrogateescape")
    end = _space(text, 0)
    if text[end : end + 1] != "[":
        raise BodyUndecodable("the body is no JSON array of events; put the event into [ ], or send it to /api/events")
    end = _space(text, end + 1)
    empty = text[end : end + 1] == "]"
    while not empty:
        start = end
        try:
            _, end = _scan(text, start)
        except (ValueError, RecursionError) as error:
            raise BodyUndecodable(f"the body is no JSON array of events: {error}") from None
        yield text[start:end].encode("utf-8", "surrogateescape")
        end = _space(text, end)
        if text[end : end + 1] != ",":
            break
        end = _space(text, end + 1)
    if text[end : end + 1] != "]" or _space(text, end + 1) != len(text):
        raise BodyUndecodable(f"the body is no JSON array of events: expected ',' or ']' at character {end}")


def _space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    assert found is not None
    return found.end()


def _too_many(limits: Limits) -> BodyTooLarge:
    return BodyTooLarge(f"the batch has more than {limits.batch_events:,} events; send smaller batches")


def decode_one(body: bytes, limits: Limits, now: datetime) -> Rows:
    """Decode a single event into one row.

    Raises:
        EventInvalid: it is not valid; every field at fault is named.
    """
    try:
        event, details, _ = _one(body, limits)
    except Refused as refused:
        raise _invalid(refused) from None
    rows = _rows([event], [details], now)
    _adjust(rows, now)
    return rows


def encode_row(rows: Rows, row: int) -> bytes:
    """Return a row as an event in JSON."""
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
    """Decode a partial update into the fields that are there; details as JSON text.

    Raises:
        EventInvalid: it is not valid; every field at fault is named.
    """
    try:
        return _changes(_update.decode(body), body, limits)
    except _DOUBTFUL:
        pass
    try:
        return validate_changes(body, limits)
    except Refused as refused:
        raise _invalid(refused) from None


def _changes(update: EventUpdate, body: bytes, limits: Limits) -> dict[str, Any]:
    given = msgspec.structs.asdict(update).items()
    changes = {name: value for name, value in given if value is not msgspec.UNSET and name not in READ_ONLY}
    if "details" in changes:
        changes["details"] = _text(changes["details"])
    if len(body) > limits.event_bytes or _suspicious(body) or not _plain(changes.get("details"), limits):
        raise msgspec.ValidationError
    return changes


def _invalid(refused: Refused) -> EventInvalid:
    return EventInvalid(_sentence(refused), errors=refused.errors)


def _sentence(refused: Refused) -> str:
    return "; ".join(error.detail for error in refused.errors)


def _fast(events: list[EventCreate], body: bytes, limits: Limits, now: datetime) -> Decoded:
    details = [_text(event.details) for event in events]
    if _suspicious(body) or not all(_plain(text, limits) for text in details):
        raise msgspec.ValidationError
    if len(events) > limits.batch_events:
        raise _too_many(limits)
    rows = _rows(events, details, now)
    return Decoded(len(events), rows, list(range(len(events))), [], _adjust(rows, now), [])


def _by_line(lines: list[bytes], limits: Limits, now: datetime) -> Decoded:
    events: list[Checked] = []
    places: list[int] = []
    errors: list[LineError] = []
    bad: list[bytes] = []
    if len(lines) > limits.batch_events:
        raise _too_many(limits)
    for index, line in enumerate(lines):
        try:
            events.append(_one(line, limits))
        except Refused as refused:
            first = refused.errors[0]
            errors.append(LineError(index, first.code, _sentence(refused), first.pointer))
            bad.append(line)
        else:
            places.append(index)
    rows = _rows([each.event for each in events], [each.details for each in events], now)
    adjusted = {row for row, each in enumerate(events) if each.adjusted} | _adjust(rows, now)
    return Decoded(len(lines), rows, places, errors, adjusted, bad)


def _one(line: bytes, limits: Limits) -> Checked:
    if len(line) <= limits.event_bytes and not _suspicious(line):
        try:
            event = _event.decode(line)
            text = _text(event.details)
            if _plain(text, limits):
                return Checked(event, text, adjusted=False)
        except _DOUBTFUL:
            pass
    return validate(line, limits)


def _text(details: msgspec.Raw) -> str | None:
    if not details:
        return None
    text = str(details, "utf-8")
    return None if text == "null" else text


def _suspicious(body: bytes) -> bool:
    """Tell whether escapes may hold what Postgres refuses: NUL, or half of a surrogate pair."""
    if _BACKSLASH not in body:  # a memchr; the scans below were 15 % of a batch's decoding
        return False
    return b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body


def _plain(details: str | None, limits: Limits) -> bool:
    """Tell whether details are an object that is surely within the limits (brackets bound the depth)."""
    return details is None or (
        details[0] == "{"
        and details.count("{") + details.count("[") <= limits.details_depth
        and (len(details) <= min(limits.key_chars, 4 * limits.details_keys) or _keys_fit(details, limits))
        and not _has_bomb(details)
    )


def _keys_fit(details: str, limits: Limits) -> bool:
    """Look at the keys of details that are so long that one may be too long, or there may be too many."""
    keys = 0
    pending = [_anything.decode(details)]
    for value in pending:
        if type(value) is dict:
            keys += len(value)
            if keys > limits.details_keys or max(map(len, value), default=0) > limits.key_chars:
                return False
            pending += value.values()
        elif type(value) is list:
            pending += value
    return True


def _has_bomb(details: str) -> bool:
    """Tell whether a number has an exponent out of range: jsonb keeps `1e131071`, and prints it with all its digits.

    A scan for the shape of such a number costs 0.2 us; what looks like one, as some hexadecimal ids do, is decoded.
    So do numbers of very many digits, which their readers cannot read.
    """
    shape = details.encode().translate(_DIGITS_TO_0, b"+-")
    if len(shape) > MAX_DIGITS and _MANY_DIGITS.search(shape):
        return True
    if b"0e000" not in shape:
        return False
    try:
        _numbers.decode(details)
    except _DOUBTFUL:
        return True
    return False


def _bounded(number: str) -> float:
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
    """Change what is not stored as it was sent; return which rows that were."""
    return _clamp_to_calendar(rows, now) | _keep_own_source(rows)


def _keep_own_source(rows: Rows) -> set[int]:
    """Give events that say they are the collector's own another source; their details say so."""
    if OWN_SOURCE not in rows.sources:
        return set()
    sent = {row for row, source in enumerate(rows.sources) if source == OWN_SOURCE}
    for row in sent:
        rows.details[row] = _flagged(rows.details[row], ADJUSTED_SOURCE, OWN_SOURCE)
        rows.sources[row] = SENT_SOURCE
    return sent


def _clamp_to_calendar(rows: Rows, now: datetime) -> set[int]:
    """Give events of the far future, or of before the calendar, their arrival time; their details say so."""
    latest = now + FUTURE_LIMIT
    if not rows.timestamps or (max(rows.timestamps) <= latest and min(rows.timestamps) >= EARLIEST):
        return set()
    clamped = {row for row, moment in enumerate(rows.timestamps) if not EARLIEST <= moment <= latest}
    for row in clamped:
        rows.details[row] = _flagged(rows.details[row], ADJUSTED_TIMESTAMP, rows.timestamps[row].isoformat())
        rows.timestamps[row] = now
    return clamped


def _flagged(details: str | None, note: str, sent: str) -> str:
    """Splice the note in as text: what stands there may hold numbers that Python cannot write back."""
    inside = details.strip()[1:-1].strip() if details else ""
    return f'{{{inside}{"," if inside else ""}"{note}":"{sent}"}}'


_anything: Final = msgspec.json.Decoder()
_numbers: Final = msgspec.json.Decoder(float_hook=_bounded)

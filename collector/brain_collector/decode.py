"""Bytes in, rows out: decode and validate events, each on its own, so a bad one never costs another.

The fast way decodes a whole batch in one call. Whatever it cannot vouch for (a malformed line, an
escape that Postgres refuses, deep details, an oversized event) sends that batch line by line, and
the lines at fault through `validate`.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from brain_collector.errors import BodyUndecodable, EventInvalid
from brain_collector.schema import EventCreate, EventUpdate
from brain_collector.validate import Limits, Refused, validate, validate_changes
from brain_events.wire import LineError

FUTURE_LIMIT: Final = timedelta(days=1)
EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day of room for offsets

_event: Final = msgspec.json.Decoder(EventCreate)
_update: Final = msgspec.json.Decoder(EventUpdate)
_elements: Final = msgspec.json.Decoder(list[msgspec.Raw])

_DOUBTFUL: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Rows(NamedTuple):
    """Valid events as columns, all of one length. `details` is JSON text."""

    types: list[str]
    severities: list[str]
    messages: list[str]
    details: list[str | None]
    sources: list[str | None]
    timestamps: list[datetime]

    def take(self, keep: Iterable[int]) -> "Rows":
        """Return only the rows at the indexes `keep`."""
        chosen = list(keep)
        types, severities, messages, details, sources, timestamps = self
        return Rows(
            [types[index] for index in chosen],
            [severities[index] for index in chosen],
            [messages[index] for index in chosen],
            [details[index] for index in chosen],
            [sources[index] for index in chosen],
            [timestamps[index] for index in chosen],
        )


class Decoded(NamedTuple):
    """A batch of `received` events: the valid ones as `rows`, each one's place in the batch, and what is wrong."""

    received: int
    rows: Rows
    places: list[int]
    errors: list[LineError]


def decode_ndjson(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode one event a line; blank lines do not count. Events without a timestamp get `now`."""
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
    """
    try:
        elements = _elements.decode(body)
    except _DOUBTFUL as error:
        raise BodyUndecodable(f"the body is no JSON array of events: {error}") from None
    return _by_line([bytes(element) for element in elements], limits, now)


def decode_one(body: bytes, limits: Limits, now: datetime) -> Rows:
    """Decode a single event into one row.

    Raises:
        EventInvalid: it is not valid; every field at fault is named.
    """
    try:
        event, details = _one(body, limits)
    except Refused as refused:
        raise _invalid(refused) from None
    return _decoded([event], [details], now).rows


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
    changes = {name: value for name, value in msgspec.structs.asdict(update).items() if value is not msgspec.UNSET}
    if "details" in changes:
        changes["details"] = _text(changes["details"])
    if len(body) > limits.event_bytes or _suspicious(body) or not _plain(changes.get("details"), limits.details_depth):
        raise msgspec.ValidationError
    return changes


def _invalid(refused: Refused) -> EventInvalid:
    return EventInvalid("; ".join(error.detail for error in refused.errors), errors=refused.errors)


def _fast(events: list[EventCreate], body: bytes, limits: Limits, now: datetime) -> Decoded:
    details = [_text(event.details) for event in events]
    if (92 in body and _suspicious(body)) or not all(_plain(text, limits.details_depth) for text in details):
        raise msgspec.ValidationError
    return _decoded(events, details, now)


def _by_line(lines: list[bytes], limits: Limits, now: datetime) -> Decoded:
    events: list[EventCreate] = []
    details: list[str | None] = []
    places: list[int] = []
    errors: list[LineError] = []
    for index, line in enumerate(lines):
        try:
            event, text = _one(line, limits)
        except Refused as refused:
            errors += [LineError(index, error.code, error.detail) for error in refused.errors[:1]]
        else:
            events.append(event)
            details.append(text)
            places.append(index)
    rows = _decoded(events, details, now).rows
    return Decoded(len(lines), rows, places, errors)


def _one(line: bytes, limits: Limits) -> tuple[EventCreate, str | None]:
    if len(line) <= limits.event_bytes and not (92 in line and _suspicious(line)):
        try:
            event = _event.decode(line)
            text = _text(event.details)
            if _plain(text, limits.details_depth):
                return event, text
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
    return b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body


def _plain(details: str | None, depth: int) -> bool:
    """Tell whether details are an object that cannot be too deep: brackets bound the depth from above."""
    return details is None or (details[0] == "{" and details.count("{") + details.count("[") <= depth)


def _decoded(events: list[EventCreate], details: list[str | None], now: datetime) -> Decoded:
    rows = Rows(
        [event.event_type for event in events],
        [event.severity for event in events],
        [event.message for event in events],
        details,
        [event.source for event in events],
        [event.timestamp or now for event in events],
    )
    if events:
        _hold_to_calendar(rows, now)
    return Decoded(len(events), rows, list(range(len(events))), [])


def _hold_to_calendar(rows: Rows, now: datetime) -> None:
    """Give events of the far future, or of before the calendar, their arrival time; their details say so."""
    latest = now + FUTURE_LIMIT
    if max(rows.timestamps) <= latest and min(rows.timestamps) >= EARLIEST:
        return
    for index, moment in enumerate(rows.timestamps):
        if not EARLIEST <= moment <= latest:
            rows.timestamps[index] = now
            rows.details[index] = _flagged(rows.details[index], moment)


def _flagged(details: str | None, moment: datetime) -> str:
    """Splice the note in as text: what stands there may hold numbers that Python cannot write back."""
    inside = details.strip()[1:-1].strip() if details else ""
    return f'{{{inside}{"," if inside else ""}"_adjusted_timestamp":"{moment.isoformat()}"}}'

"""Decoding: bytes in, rows out. Each event is decoded and validated separately, so an invalid one affects no other.

The fast path decodes a batch in one call. If it cannot guarantee that every event is valid (because of a malformed
line, an escape that Postgres rejects, deep details, a large event), the batch is decoded line by line, and doubtful
lines by `validate`.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from brain_collector.errors import BodyTooLarge, EventInvalid
from brain_collector.ingest.array import elements
from brain_collector.ingest.details_limits import details_limits
from brain_collector.ingest.limits import EventRejected, Limits
from brain_collector.ingest.members import add_note
from brain_collector.ingest.plain import PlainEvent, PlainUpdate
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.storable import may_have_bad_escapes
from brain_collector.ingest.validate import (
    ADJUSTED_SOURCE,
    ADJUSTED_TIMESTAMP,
    READ_ONLY,
    ValidEvent,
    validate,
    validate_changes,
)
from brain_events.wire import LineError

FUTURE_LIMIT: Final = timedelta(days=1)
EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day after the minimum, because of offsets
OWN_SOURCE: Final = "collector"
"""The source of the collector's own events. In events from clients, `CLIENT_SOURCE` replaces it."""
CLIENT_SOURCE: Final = "client:collector"

_event: Final = msgspec.json.Decoder(PlainEvent)
_update: Final = msgspec.json.Decoder(PlainUpdate)
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
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
                return _decode_fast(events, body, lines, limits, now)
        except (*_DECODE_ERRORS, EventRejected):
            pass
    return _decode_lines([line for line in lines if line.strip()], limits, now)


def decode_array(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode a JSON array of events.

    Raises:
        BodyUndecodable: the body is not a JSON array.
        BodyTooLarge: the batch has more than `batch_events` events.
    """
    return _decode_lines(list(islice(elements(body), limits.batch_events + 1)), limits, now)


def is_object(body: bytes, limits: Limits) -> bool:
    """Return whether a body is one JSON object on several lines; NDJSON ends this check after its first line."""
    if len(body) > limits.event_bytes or b"\n" not in body.strip():
        return False
    try:
        _object.decode(body)
    except _DECODE_ERRORS:
        return False
    return True


def decode_object(body: bytes, limits: Limits, now: datetime) -> Decoded:
    """Decode a batch of one event, which is one JSON object."""
    return _decode_lines([body], limits, now)


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
        with suppress(*_DECODE_ERRORS):
            return _changes(_update.decode(body), body, limits)
        return validate_changes(body, limits)
    except EventRejected as rejected:
        raise _invalid(rejected) from None


def _changes(update: PlainUpdate, body: bytes, limits: Limits) -> dict[str, Any]:
    fields = msgspec.structs.asdict(update).items()
    changes = {name: value for name, value in fields if value is not msgspec.UNSET and name not in READ_ONLY}
    if "details" in changes:
        changes["details"] = _details_text(changes["details"])
    if (
        len(body) > limits.event_bytes
        or may_have_bad_escapes(body)
        or not _hold([changes.get("details")], [len(body)], limits)
    ):
        raise msgspec.ValidationError
    return changes


def _invalid(rejected: EventRejected) -> EventInvalid:
    return EventInvalid(_detail(rejected), errors=rejected.errors)


def _detail(rejected: EventRejected) -> str:
    return "; ".join(error.detail for error in rejected.errors)


def _decode_fast(events: list[PlainEvent], body: bytes, lines: list[bytes], limits: Limits, now: datetime) -> Decoded:
    details = [_details_text(event.details) for event in events]
    if may_have_bad_escapes(body) or not _hold(details, map(len, lines), limits):
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
    if len(line) <= limits.event_bytes and not may_have_bad_escapes(line):
        try:
            event = _event.decode(line)
            text = _details_text(event.details)
            if text is None or details_limits(limits).hold(text, len(line)):
                return ValidEvent(event, text, is_adjusted=False)
        except _DECODE_ERRORS:
            pass
    return validate(line, limits)


def _details_text(details: msgspec.Raw) -> str | None:
    if not details:
        return None
    text = str(details, "utf-8")
    return None if text == "null" else text


def _hold(details: Iterable[str | None], sizes: Iterable[int], limits: Limits) -> bool:
    """Return whether the details of events of these sizes are certainly within the limits."""
    hold = details_limits(limits).hold
    return all(text is None or hold(text, size) for text, size in zip(details, sizes))  # noqa: B905 - an empty last line


def _rows(events: list[PlainEvent], details: list[str | None], now: datetime) -> Rows:
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
        rows.details[row] = add_note(rows.details[row], ADJUSTED_SOURCE, OWN_SOURCE)
        rows.sources[row] = CLIENT_SOURCE
    return changed


def _replace_timestamps(rows: Rows, now: datetime) -> set[int]:
    """Replace timestamps in the future or before the calendar by the arrival time, and note it in the details."""
    latest = now + FUTURE_LIMIT
    if not rows.timestamps or (max(rows.timestamps) <= latest and min(rows.timestamps) >= EARLIEST):
        return set()
    changed = {row for row, moment in enumerate(rows.timestamps) if not EARLIEST <= moment <= latest}
    for row in changed:
        rows.details[row] = add_note(rows.details[row], ADJUSTED_TIMESTAMP, rows.timestamps[row].isoformat())
        rows.timestamps[row] = now
    return changed

"""Decoding: bytes in, rows out. Each event is decoded and validated separately, so an invalid one affects no other.

The fast path decodes a piece of a batch in one call. If it cannot guarantee that every event is valid (because of a
malformed line, an escape that Postgres rejects, deep details, a large event), the piece is decoded line by line, from
the first event that is doubtful, and doubtful lines by `validate`.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from brain_collector.errors import BodyTooLarge, EventInvalid
from brain_collector.ingest.array import elements
from brain_collector.ingest.details_limits import details_limits
from brain_collector.ingest.limits import Check, EventRejected, Limits, no_check
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

PIECE_BYTES: Final = 256 * 2**10
"""Size of the pieces in which a batch is decoded: no other thread runs while one is."""

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


def decode_ndjson(body: bytes, limits: Limits, now: datetime, check: Check = no_check) -> Decoded:
    """Decode one event per line, skipping blank lines. Events without a timestamp get `now`.

    `check` is called again and again; what it raises ends the decoding.

    Raises:
        BodyTooLarge: the batch has more than `batch_events` events.
    """
    if body.count(b"\n") > 2 * limits.batch_events:  # counts blank lines too; before memory is used for any
        raise _too_many(limits)
    batch = _Batch(limits, check)
    start = 0
    while start < len(body):
        end = len(body)
        if start + PIECE_BYTES < end:
            end = body.rfind(b"\n", start, start + PIECE_BYTES) + 1 or body.find(b"\n", start) + 1 or end
        piece = body[start:end]
        lines = piece.split(b"\n")
        batch.add(lines if lines[-1] else lines[:-1], piece)
        start = end
    return batch.decoded(now)


def decode_array(body: bytes, limits: Limits, now: datetime, check: Check = no_check) -> Decoded:
    """Decode a JSON array of events; see `decode_ndjson`.

    Raises:
        BodyUndecodable: the body is not a JSON array.
        BodyTooLarge: the batch has more than `batch_events` events.
    """
    batch = _Batch(limits, check)
    batch.add_in_pieces(elements(body, check))
    return batch.decoded(now)


def is_object(body: bytes, limits: Limits) -> bool:
    """Return whether a body is one JSON object on several lines; NDJSON ends this check after its first line."""
    if len(body) > limits.event_bytes or b"\n" not in body.strip():
        return False
    try:
        _object.decode(body)
    except _DECODE_ERRORS:
        return False
    return True


def decode_object(body: bytes, limits: Limits, now: datetime, check: Check = no_check) -> Decoded:
    """Decode a batch of one event, which is one JSON object; see `decode_ndjson`."""
    batch = _Batch(limits, check)
    batch.add([body], body)
    return batch.decoded(now)


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
    text = changes.get("details")
    if (
        len(body) > limits.event_bytes
        or may_have_bad_escapes(body)
        or (text is not None and not details_limits(limits).hold(text, len(body)))
    ):
        raise msgspec.ValidationError
    return changes


def _invalid(rejected: EventRejected) -> EventInvalid:
    return EventInvalid(_detail(rejected), errors=rejected.errors)


def _detail(rejected: EventRejected) -> str:
    return "; ".join(error.detail for error in rejected.errors)


class _Batch:
    """The events of a batch, as they are decoded one after the other."""

    def __init__(self, limits: Limits, check: Check) -> None:
        self._limits = limits
        self._check = check
        self._received = 0
        self._events: list[PlainEvent] = []
        self._details: list[str | None] = []
        self._indexes: list[int] = []
        self._errors: list[LineError] = []
        self._rejected_lines: list[bytes] = []
        self._adjusted: set[int] = set()

    def add_in_pieces(self, lines: Iterable[bytes]) -> None:
        """Add the events of these lines, none of which is blank."""
        piece: list[bytes] = []
        n_bytes = 0
        for line in lines:
            piece.append(line)
            n_bytes += len(line)
            if self._received + len(piece) > self._limits.batch_events:
                raise _too_many(self._limits)
            if n_bytes > PIECE_BYTES:
                self.add(piece, b"\n".join(piece))
                piece, n_bytes = [], 0
        self.add(piece, b"\n".join(piece))

    def add(self, lines: list[bytes], piece: bytes) -> None:
        """Add the events of these lines, which are those of the piece; blank ones are skipped."""
        self._check()
        for line in lines[self._add_plain(piece, lines) :]:
            if line.strip():
                self._check()
                self._add_line(line)

    def _add_plain(self, piece: bytes, lines: list[bytes]) -> int:
        """Decode all lines in one call, and add the events before the first doubtful one; return their number."""
        if may_have_bad_escapes(piece) or max(map(len, lines), default=0) > self._limits.event_bytes:
            return 0
        try:
            events = _event.decode_lines(piece)
            details = [_details_text(event.details) for event in events]
        except _DECODE_ERRORS:
            return 0
        if len(events) != len(lines):  # a line is blank, or is not one event
            return 0
        n = _n_held(details, lines, self._limits)
        self._indexes += range(self._received, self._received + n)
        self._events += events[:n]
        self._details += details[:n]
        self._receive(n)
        return n

    def _add_line(self, line: bytes) -> None:
        index = self._received
        self._receive(1)
        try:
            event, details, is_adjusted = _decode_line(line, self._limits)
        except EventRejected as rejected:
            first = rejected.errors[0]
            self._errors.append(LineError(index, first.code, _detail(rejected), first.pointer))
            self._rejected_lines.append(line)
            return
        if is_adjusted:
            self._adjusted.add(len(self._events))
        self._indexes.append(index)
        self._events.append(event)
        self._details.append(details)

    def _receive(self, n: int) -> None:
        self._received += n
        if self._received > self._limits.batch_events:
            raise _too_many(self._limits)

    def decoded(self, now: datetime) -> Decoded:
        """Return the decoded batch; events without a timestamp get `now`."""
        rows = _rows(self._events, self._details, now)
        adjusted = self._adjusted | _adjust(rows, now)
        return Decoded(self._received, rows, self._indexes, self._errors, adjusted, self._rejected_lines)


def _n_held(details: list[str | None], lines: list[bytes], limits: Limits) -> int:
    """Return the number of events before the first whose details are not certainly within the limits."""
    hold = details_limits(limits).hold
    n = 0
    with suppress(EventRejected):
        for text, line in zip(details, lines, strict=True):
            if text is not None and not hold(text, len(line)):
                break
            n += 1
    return n


def _decode_line(line: bytes, limits: Limits) -> ValidEvent:
    if len(line) > limits.event_bytes or may_have_bad_escapes(line):
        return validate(line, limits)
    try:
        event = _event.decode(line)
        text = _details_text(event.details)
    except _DECODE_ERRORS:
        return validate(line, limits)
    if text is None or details_limits(limits).hold(text, len(line)):
        return ValidEvent(event, text, is_adjusted=False)
    return validate(line, limits, has_doubtful_details=True)


def _details_text(details: msgspec.Raw) -> str | None:
    if not details:
        return None
    text = str(details, "utf-8")
    return None if text == "null" else text


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

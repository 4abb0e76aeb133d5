"""Events as the commands print them: one line of text, all fields as text, a row of CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from brain_collector import printable

FIELDS: Final = ("id", "timestamp", "severity", "event_type", "source", "message", "details", "created_at")
MAX_VALUE_CHARS: Final = 120
"""Maximum length of a details value in a line of text; `get` and --json print it in full."""

COLOURS: Final = {"critical": "bright_red", "error": "red", "warning": "yellow", "info": "green"}


class Match(msgspec.Struct, gc=False):
    """As `schema.Match`, which imports the SDK: that would take a fifth of the time in which `tail --help` is shown."""

    at: str
    start: int
    end: int


class StoredEvent(msgspec.Struct, gc=False):
    """An event as the collector returns it; the result of a search has `matches`."""

    id: int
    event_type: str
    severity: str
    message: str
    details: msgspec.Raw
    source: str | None
    timestamp: datetime
    created_at: datetime
    matches: list[Match] = []
    json: bytes = b""
    """The event's own JSON, as it was received."""

    @property
    def decoded_details(self) -> dict[str, Any]:
        """The details as Python objects."""
        details: dict[str, Any] | None = msgspec.json.decode(self.details, type=dict[str, Any] | None)
        return details or {}


_decode: Final = msgspec.json.Decoder(StoredEvent).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def decode_events(array: bytes) -> list[StoredEvent]:
    """Return the events of a JSON array."""
    return [decode_event(bytes(line)) for line in _decode_array(array)]


def decode_event(line: bytes) -> StoredEvent:
    """Return an event from its JSON."""
    event = _decode(line)
    event.json = line
    return event


def json_document(response: bytes) -> str:
    """Return a response for output as JSON.

    Raises:
        msgspec.DecodeError: it is not JSON.
    """
    msgspec.json.decode(response)
    return printable.json_text(response.decode())


class TextStyle:
    """The look of text output: with or without colours, times in local time or in UTC."""

    def __init__(self, *, colour: bool, local: bool) -> None:
        self.colour = colour
        self._zone = None if local else UTC

    def time(self, moment: datetime) -> str:
        """Return a time to the millisecond, with its offset."""
        return moment.astimezone(self._zone).isoformat(" ", "milliseconds").replace("+00:00", "Z")

    def styled(self, text: str, **style: Any) -> str:
        """Return the text with colours, if colours are on."""
        return click.style(text, **style) if self.colour else text

    def one_line(self, event: StoredEvent) -> str:
        """Return an event as one line that is safe for a terminal; long details values are cut."""
        details = " ".join(
            f"{self.styled(printable.one_line(name) + '=', dim=True)}{_shortened(value)}"
            for name, value in event.decoded_details.items()
        )
        parts = (
            self.styled(self.time(event.timestamp), dim=True),
            self.styled(
                f"{printable.one_line(event.severity):<8}",
                fg=COLOURS.get(event.severity),
                bold=event.severity == "critical",
            ),
            self.styled(printable.one_line(event.event_type), bold=True),
            self.styled(f"[{printable.one_line(event.source)}]", fg="cyan") if event.source else "",
            self._highlighted_message(event),
            details,
            self.styled(f"#{event.id}", dim=True),
        )
        return " ".join(part for part in parts if part)

    def _highlighted_message(self, event: StoredEvent) -> str:
        """Return the message with the matches of a search in reverse video."""
        parts, end = [], 0
        in_message = (match for match in event.matches if match.at == "/message")
        for match in sorted(in_message, key=lambda match: match.start):
            start = max(end, match.start)
            parts.append(printable.one_line(event.message[end:start]))
            parts.append(self.styled(printable.one_line(event.message[start : match.end]), reverse=True))
            end = max(end, match.end)
        return "".join([*parts, printable.one_line(event.message[end:])])

    def in_full(self, event: StoredEvent) -> str:
        """Return an event as several lines, with every field in full."""
        decoded = event.decoded_details
        details = msgspec.json.format(msgspec.json.encode(decoded), indent=2).decode() if decoded else "none"
        fields = {
            "id": str(event.id),
            "timestamp": self.time(event.timestamp),
            "severity": self.styled(printable.one_line(event.severity), fg=COLOURS.get(event.severity)),
            "type": printable.one_line(event.event_type),
            "source": printable.one_line(event.source or "none"),
            "message": printable.lines(event.message).replace("\n", "\n           "),
            "details": printable.lines(details).replace("\n", "\n           "),
            "created": self.time(event.created_at),
        }
        return "\n".join(f"{self.styled(f'{name:<10}', dim=True)} {value}" for name, value in fields.items())


def value_text(value: Any) -> str:
    """Return a value as one line of text: a string as it is, any other value as JSON."""
    return printable.one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def csv_rows(events: Iterable[StoredEvent]) -> Iterator[str]:
    """Yield events as CSV (RFC 4180); a cell that a spreadsheet would run as a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    rows = ([_cell(event, name) for name in FIELDS] for event in events)
    yield ",".join(FIELDS) + "\r\n"
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(buffer.truncate(0))


def _cell(event: StoredEvent, name: str) -> str:
    value = getattr(event, name)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    text = "" if value is None else bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    text = "" if name == "details" and text == "null" else text
    return printable.no_formula(text)


def _shortened(value: Any) -> str:
    text = value_text(value) if value is not None else "null"
    if len(text) > MAX_VALUE_CHARS:
        return f"{text[:MAX_VALUE_CHARS]}…"
    return f'"{text}"' if not text or (isinstance(value, str) and " " in text) else text

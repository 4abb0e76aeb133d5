"""Events as the commands print them: a line of text, all there is, a row of CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from brain_collector import printable

FIELDS: Final = ("id", "timestamp", "severity", "event_type", "source", "message", "details", "created_at")
VALUE_CHARS: Final = 120
"""Longest value of a detail in a line of text; `get` and --json have it whole."""

COLOURS: Final = {"critical": "bright_red", "error": "red", "warning": "yellow", "info": "green"}


class Match(msgspec.Struct, gc=False):
    """What a search looked for: the characters from `start` to before `end` of the text at a JSON pointer."""

    at: str
    start: int
    end: int


class Found(msgspec.Struct, gc=False):
    """An event of an answer; of a search, with its matches."""

    id: int
    event_type: str
    severity: str
    message: str
    details: msgspec.Raw
    source: str | None
    timestamp: datetime
    created_at: datetime
    matches: list[Match] = []
    line: bytes = b""
    """The event's own JSON, as it came."""

    @property
    def detail(self) -> dict[str, Any]:
        """The details, decoded."""
        found: dict[str, Any] | None = msgspec.json.decode(self.details)
        return found or {}


_decode: Final = msgspec.json.Decoder(Found).decode
_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def events(array: bytes) -> list[Found]:
    """Return the events of a JSON array."""
    return [event(bytes(line)) for line in _array(array)]


def event(line: bytes) -> Found:
    """Return an event from its JSON."""
    found = _decode(line)
    found.line = line
    return found


class Look:
    """How text looks: with colours or not, in which time zone."""

    def __init__(self, *, colour: bool, local: bool) -> None:
        self.colour = colour
        self._zone = None if local else UTC

    def moment(self, moment: datetime) -> str:
        """Return a moment to the millisecond, with its offset."""
        return moment.astimezone(self._zone).isoformat(" ", "milliseconds").replace("+00:00", "Z")

    def style(self, text: str, **style: Any) -> str:
        """Colour it, if colours are wanted."""
        return click.style(text, **style) if self.colour else text

    def line(self, found: Found) -> str:
        """Return an event as one line: safe for a terminal, long values of details cut."""
        details = " ".join(
            f"{self.style(printable.one_line(name) + '=', dim=True)}{_short(value)}"
            for name, value in found.detail.items()
        )
        parts = (
            self.style(self.moment(found.timestamp), dim=True),
            self.style(f"{found.severity:<8}", fg=COLOURS.get(found.severity), bold=found.severity == "critical"),
            self.style(printable.one_line(found.event_type), bold=True),
            self.style(f"[{printable.one_line(found.source)}]", fg="cyan") if found.source else "",
            self._marked(found),
            details,
            self.style(f"#{found.id}", dim=True),
        )
        return " ".join(part for part in parts if part)

    def _marked(self, found: Found) -> str:
        """Return the message, with what a search looked for in reverse."""
        parts, end = [], 0
        for match in sorted((each for each in found.matches if each.at == "/message"), key=lambda each: each.start):
            parts.append(printable.one_line(found.message[end : max(end, match.start)]))
            parts.append(self.style(printable.one_line(found.message[max(end, match.start) : match.end]), reverse=True))
            end = max(end, match.end)
        return "".join([*parts, printable.one_line(found.message[end:])])

    def whole(self, found: Found) -> str:
        """Return an event as lines, with nothing left out."""
        details = msgspec.json.format(msgspec.json.encode(found.detail), indent=2).decode() if found.detail else "none"
        rows = {
            "id": str(found.id),
            "timestamp": self.moment(found.timestamp),
            "severity": self.style(found.severity, fg=COLOURS.get(found.severity)),
            "type": printable.one_line(found.event_type),
            "source": printable.one_line(found.source or "none"),
            "message": printable.lines(found.message).replace("\n", "\n           "),
            "details": printable.lines(details).replace("\n", "\n           "),
            "created": self.moment(found.created_at),
        }
        return "\n".join(f"{self.style(f'{name:<10}', dim=True)} {value}" for name, value in rows.items())


def shown(value: Any) -> str:
    """Return a value as text on one line: JSON, if it is no text."""
    return printable.one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def csv_rows(found: Iterable[Found]) -> Iterator[str]:
    """Yield events as CSV (RFC 4180); a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    rows = ([_cell(each, name) for name in FIELDS] for each in found)
    yield ",".join(FIELDS) + "\r\n"
    for row in rows:
        writer.writerow(row)
        yield out.getvalue()
        out.seek(out.truncate(0))


def _cell(found: Found, name: str) -> str:
    value = getattr(found, name)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    text = "" if value is None else bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    text = "" if name == "details" and text == "null" else text
    return printable.no_formula(text)


def _short(value: Any) -> str:
    text = shown(value) if value is not None else "null"
    if len(text) > VALUE_CHARS:
        return f"{text[:VALUE_CHARS]}…"
    return f'"{text}"' if not text or (isinstance(value, str) and " " in text) else text

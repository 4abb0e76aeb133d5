"""All events of a filter, as whole lines of NDJSON: on behind the last one when a document ends, or breaks."""

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from brain_collector.cli.client import Client, Refused, Unreachable, pauses
from brain_collector.cli.commands.query import EVENTS

EXPORT: Final = f"{EVENTS}/export"
SILENCE_S: Final = 60.0
"""How long an export may say nothing; a collector takes its `read_deadline_s` for a page at most, 5 s."""
SEARCH_SILENCE_S: Final = 600.0
"""The same of a search: it says nothing until it finds something."""


class _Place(msgspec.Struct):
    timestamp: str
    id: int


def after(line: bytes) -> str:
    """Return where an export goes on behind an event.

    Raises:
        msgspec.MsgspecError: the line is no event.
    """
    place = msgspec.json.decode(line, type=_Place)
    return f"{place.timestamp}~{place.id}"


def walk(client: Client, wanted: list[tuple[str, str]], last: bytes = b"") -> Iterator[bytes]:
    """Yield whole lines, newest events first, behind the event `last`, until the collector has no more.

    A collector ends a document at its `max_export_events`, which nothing tells from the end of the events: so the end
    is where it has nothing left. What breaks is gone on with for as long as `client.timeout_s` without a line.

    Raises:
        ClientError: it was refused, or does not go on.
    """
    moved_at_s, waits, begun = time.monotonic(), pauses(), False
    while True:
        ended = True
        try:
            for lines in _document(client, wanted, last):
                begun, ended = True, False
                last = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
                yield lines
                moved_at_s, waits = time.monotonic(), pauses()
            if ended:
                return
        except (Unreachable, Refused) as error:
            temporary = error.temporary if isinstance(error, Refused) else begun
            if not temporary or time.monotonic() - moved_at_s > client.timeout_s:
                raise
            time.sleep(max(next(waits), error.after_s if isinstance(error, Refused) else 0.0))


def _document(client: Client, wanted: list[tuple[str, str]], last: bytes) -> Iterator[bytes]:
    asked = [*wanted, *([("after", after(last))] if last else [])]
    silence_s = SEARCH_SILENCE_S if "q" in dict(wanted) else SILENCE_S
    rest = b""
    with client.streamed(EXPORT, asked, headers={"Accept-Encoding": "gzip"}, silence_s=silence_s) as pieces:
        for piece in pieces:
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield whole + newline

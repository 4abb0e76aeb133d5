"""Reads all events of a filter as complete lines of NDJSON, over several requests and broken connections."""

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from brain_collector.cli.client import Client, Refused, Unreachable, backoff
from brain_collector.cli.commands.query import EVENTS

EXPORT: Final = f"{EVENTS}/export"
SILENCE_S: Final = 60.0
"""Maximum silence of an export. A collector takes at most `read_deadline_s` for a page, by default 5 s."""
SEARCH_SILENCE_S: Final = 600.0
"""Maximum silence of an export with a search, which sends nothing until it finds something."""


class _Position(msgspec.Struct):
    timestamp: str
    id: int


def after(line: bytes) -> str:
    """Return the `after` parameter that resumes an export after an event.

    Raises:
        msgspec.MsgspecError: the line is not an event.
    """
    position = msgspec.json.decode(line, type=_Position)
    return f"{position.timestamp}~{position.id}"


def walk(client: Client, parameters: list[tuple[str, str]], last: bytes = b"") -> Iterator[bytes]:
    """Yield complete lines, newest events first, starting after the event `last`, until there are no more.

    A collector ends a response at its `max_export_events`, and nothing distinguishes that from the end of the events:
    the end is a response without events. A broken connection is resumed until `client.timeout_s` passes without a line.

    Raises:
        ClientError: the collector refuses the export, or it cannot be resumed.
    """
    progressed_at_s, pauses, started = time.monotonic(), backoff(), False
    while True:
        is_empty = True
        try:
            for lines in _response_lines(client, parameters, last):
                started, is_empty = True, False
                last = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
                yield lines
                progressed_at_s, pauses = time.monotonic(), backoff()
            if is_empty:
                return
        except (Unreachable, Refused) as error:
            temporary = error.temporary if isinstance(error, Refused) else started
            if not temporary or time.monotonic() - progressed_at_s > client.timeout_s:
                raise
            time.sleep(max(next(pauses), error.after_s if isinstance(error, Refused) else 0.0))


def _response_lines(client: Client, parameters: list[tuple[str, str]], last: bytes) -> Iterator[bytes]:
    query = [*parameters, *([("after", after(last))] if last else [])]
    silence_s = SEARCH_SILENCE_S if "q" in dict(parameters) else SILENCE_S
    rest = b""
    with client.stream(EXPORT, query, headers={"Accept-Encoding": "gzip"}, silence_s=silence_s) as chunks:
        for chunk in chunks:
            complete, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield complete + newline

"""Exports: all events of a filter, page by page, with no open cursor or transaction between two pages.

Each page resumes after the last event of the previous one, so events that are stored or deleted meanwhile neither
repeat nor skip others, and a slow client holds nothing in the database.
"""

import csv
import io
from collections.abc import AsyncIterator
from typing import Final, Literal

import msgspec

from brain_collector.printable import no_formula
from brain_collector.query.cursor import Position
from brain_collector.query.filter import Filter
from brain_collector.read import pages
from brain_collector.read.store import Store
from brain_collector.schema import Event
from brain_collector.settings import Settings
from brain_collector.shares import Slots

Format = Literal["ndjson", "json", "csv"]

FIRST_PAGE: Final = 100
"""Number of events of the first page, so that the response begins soon."""
LARGEST_PAGE: Final = 2_000
PAGE_BYTES: Final = 2 * 2**20
"""Maximum size of the events of a page; a larger event is a page by itself."""
COLUMNS: Final = ("id", "timestamp", "severity", "event_type", "source", "message", "details", "created_at")

_encode: Final = msgspec.json.encode


class Exports:
    """Limits the number of concurrent exports and reads their pages."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self.slots: Final = Slots("exports", "max_exports", settings)

    async def pages(self, filter: Filter, limit: int, after: Position | None) -> AsyncIterator[list[Event]]:
        """Yield up to `limit` events, newest first, after a position; at least one page, which may be empty.

        Raises:
            Problem: as `read.pages.page` does, on any page.
        """
        size = FIRST_PAGE
        while True:
            events, after = await pages.page(
                self._store, filter, limit=min(size, limit), max_bytes=PAGE_BYTES, after=after
            )
            yield events
            limit -= len(events)
            if after is None or not limit:
                return
            size = LARGEST_PAGE


def lines(events: list[Event], form: Format, *, first: bool) -> bytes:
    """Return a page encoded in a format; `first`: it begins the document."""
    if form == "ndjson":
        return b"".join(_encode(event) + b"\n" for event in events)
    if form == "json":
        joined = b",\n".join(map(_encode, events))
        return b"[" + joined if first else b",\n" + joined if joined else b""
    text = io.StringIO()
    writer = csv.writer(text)  # RFC 4180
    if first:
        writer.writerow(COLUMNS)
    writer.writerows(map(_cells, events))
    return text.getvalue().encode()


def end(form: Format) -> bytes:
    """Return the end of the document."""
    return b"]\n" if form == "json" else b""


def _cells(event: Event) -> list[str | int]:
    details = bytes(msgspec.Raw(event.details)).decode() if bytes(event.details) != b"null" else ""
    texts = (event.severity, event.event_type, event.source or "", event.message, details)
    return [event.id, _moment(event.timestamp), *map(no_formula, texts), _moment(event.created_at)]


def _moment(moment: object) -> str:
    return _encode(moment).decode().strip('"')

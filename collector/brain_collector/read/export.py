"""All events of a filter, page by page: nothing is open in the database between two pages, however slow the client is.

Each page continues behind the last event of the one before, so what comes in or goes meanwhile moves nothing.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from brain_collector.errors import Unavailable
from brain_collector.printable import no_formula
from brain_collector.query.cursor import Position
from brain_collector.query.filter import Filter
from brain_collector.read import pages
from brain_collector.read.store import Store
from brain_collector.schema import Event
from brain_collector.settings import Settings

Format = Literal["ndjson", "json", "csv"]

FIRST_PAGE: Final = 100
LARGEST_PAGE: Final = 2_000
PAGE_BYTES: Final = 2 * 2**20
"""About how large a page is, by the size of the events in the one before."""
COLUMNS: Final = ("id", "timestamp", "severity", "event_type", "source", "message", "details", "created_at")

_encode: Final = msgspec.json.encode


class Exports:
    """The exports under way, which are a few at most."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._running = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of the exports under way.

        Raises:
            Unavailable: there are as many as may be.
        """
        if self._running >= self._settings.max_exports:
            after_s = self._settings.retry_after_s
            raise Unavailable(
                f"{self._running} exports are under way, as many as may be (BRAIN_COLLECTOR_MAX_EXPORTS); "
                f"try again in {after_s} s",
                retry_after_s=after_s,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def pages(self, wanted: Filter, limit: int, after: Position | None) -> AsyncIterator[list[Event]]:
        """Yield up to `limit` events, newest first, behind a position; at least one page, which may be empty.

        Raises:
            Problem: as `Store.page` does, on any page.
        """
        size = FIRST_PAGE
        while True:
            found, after = await pages.page(self._store, wanted, limit=min(size, limit), after=after)
            yield found
            limit -= len(found)
            if after is None or not limit:
                return
            if found:
                size = max(1, min(LARGEST_PAGE, PAGE_BYTES * len(found) // sum(map(_bytes_about, found))))


def _bytes_about(event: Event) -> int:
    return 200 + len(event.message) + memoryview(event.details).nbytes


def lines(events: list[Event], form: Format, *, first: bool) -> bytes:
    """Return a page as it travels; `first`: it begins the document."""
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
    """Return what ends the document."""
    return b"]\n" if form == "json" else b""


def _cells(event: Event) -> list[str | int]:
    details = bytes(msgspec.Raw(event.details)).decode() if bytes(event.details) != b"null" else ""
    texts = (event.severity, event.event_type, event.source or "", event.message, details)
    return [event.id, _moment(event.timestamp), *map(no_formula, texts), _moment(event.created_at)]


def _moment(moment: object) -> str:
    return _encode(moment).decode().strip('"')

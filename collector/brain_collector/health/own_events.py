"""The collector's own events (`source="collector"`): what happened to it in, rows of its own table out.

They take the write path of everyone. While the database is away they go to stdout as JSON, and are stored
when it is back. Storing them makes no further events.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from brain_collector.errors import CollectorError
from brain_collector.ingest.decode import OWN_SOURCE
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.submission import Stored, Submission
from brain_collector.metrics import OWN_EVENTS_DROPPED, Metrics
from brain_collector.schema import Severity
from brain_events.wire import Event, new_key

SOURCE: Final = OWN_SOURCE
CANARY: Final = "health_check"
"""The own events that are read back after they were acknowledged."""
MAX_WAITING: Final = 1_000
"""Own events kept while the database is away; the oldest give way, and are counted."""

OWN_EVENTS: Final = {
    "system_startup": "The collector began to serve.",
    "system_shutdown": "The collector stopped serving.",
    "health_check": "GET /health was asked; repeated ones are counted in `count`. Not asked for a while, the collector "
    "makes one itself (`count` 0), to see that it can be read back.",
    "db_health_check": "GET /health/db was asked; repeated ones are counted in `count`.",
    "database_lost": "The database stopped taking writes; `reason` says why.",
    "database_back": "The database takes writes again; `away_s` is how long it did not.",
    "cache_lost": "Redis stopped answering; requests go to Postgres.",
    "cache_back": "Redis answers again; `away_s` is how long it did not.",
    "engine_restarted": "An embedded engine died and was started again.",
    "events_dropped": "Own events were dropped while the database was away for long.",
    "api_key_created": "An API key was made; `by` is who asked.",
    "api_key_revoked": "An API key was revoked; `by` is who asked.",
    "rejections_dropped": "More lines were refused than the quarantine takes in; `count` is how many it lacks.",
    "canary_failed": "Own health checks that had been acknowledged were not found, or stored twice; `ids` names them.",
    "input_rejected": "Requests held events that were refused; `count` is how many.",
}
"""Every own event, in one list."""


class Acknowledged(NamedTuple):
    """An own event that was committed, as the writer said, and the id it got."""

    id: int
    event: Event


class _Check(NamedTuple):
    severity: Severity
    message: str
    at_s: float
    suppressed: int


Submit = Callable[[Submission], Awaitable[Stored]]
"""How rows are written: as everyone's."""


class OwnEvents:
    """Collects own events and stores them. `run()` is its one task."""

    def __init__(
        self,
        *,
        interval_s: float,
        retry_s: float,
        metrics: Metrics,
    ) -> None:
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._metrics = metrics
        self._being_stored = 0
        self.acknowledged: deque[Acknowledged] = deque(maxlen=MAX_WAITING)
        """Health checks that were stored; whoever checks them takes them out."""
        self._away = False  # while it is, stdout sees each event as it is logged
        self._checks: dict[str, _Check] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events are not stored yet."""
        return len(self._waiting) + self._being_stored

    def log(self, event_type: str, severity: Severity, message: str, **details: Any) -> None:
        """Record an event of `OWN_EVENTS`. Never waits, never raises."""
        assert event_type in OWN_EVENTS, event_type
        event = Event(event_type, severity, message, details or None, SOURCE, datetime.now(UTC))
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
            self._dropped += 1
            self._metrics.add(OWN_EVENTS_DROPPED)
        self._waiting.append(event)
        self._wake.set()
        if self._away:
            _print(event)

    def check(self, event_type: str, severity: Severity, message: str, *, n: int = 1, **details: Any) -> None:
        """Record a repeated check: the first and a changed outcome at once, else one an interval with their count."""
        now_s = time.monotonic()
        last = self._checks.get(event_type)
        if last is not None and last.severity == severity and now_s - last.at_s < self._interval_s:
            self._checks[event_type] = last._replace(suppressed=last.suppressed + n)
            return
        if last is not None and last.severity != severity and last.suppressed:
            self.log(event_type, last.severity, last.message, count=last.suppressed)
            last = None
        count = n + (last.suppressed if last is not None else 0)
        self._checks[event_type] = _Check(severity, message, now_s, 0)
        self.log(event_type, severity, message, count=count, **details)

    def rejected(self, n: int) -> None:
        """Record that a request held n rejected events."""
        self.check("input_rejected", "warning", "Events were rejected", n=n)

    def not_kept(self, n: int) -> None:
        """Record that n rejected lines could not be kept."""
        self.check("rejections_dropped", "warning", "Rejected lines were not kept", n=n)

    async def run(self, submit: Submit) -> None:
        """Store what is logged until `close`, and what is left then, if that can be done at once."""
        while self._waiting or not self._closing.is_set():
            await self._wake.wait()
            self._wake.clear()
            events = list(self._waiting)
            self._waiting.clear()
            if events:
                self._being_stored = len(events)
                await self._store(submit, events)
                self._being_stored = 0

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
        self._wake.set()

    async def _store(self, submit: Submit, events: list[Event]) -> None:
        """Store one batch under one key, however often it takes: a try that timed out may have succeeded."""
        key = new_key()
        while True:
            try:
                stored = await submit(_submission(events, key))
            except CollectorError:
                self._go_away(events)
                if self._closing.is_set():
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._retry_s)
            else:
                self._away = False
                for id, event in enumerate(events, stored.first_id):
                    if event.event_type == CANARY:
                        self.acknowledged.append(Acknowledged(id, event))
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self.log("events_dropped", "warning", f"{dropped} own events were dropped", dropped=dropped)
                return

    def _go_away(self, events: list[Event]) -> None:
        if not self._away:
            self._away = True
            for event in (*events, *self._waiting):
                _print(event)


def _print(event: Event) -> None:
    with suppress(OSError):
        sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
        sys.stdout.flush()


def _submission(events: list[Event], key: UUID) -> Submission:
    rows = Rows(
        [event.event_type for event in events],
        [event.severity for event in events],
        [event.message for event in events],
        [None if event.details is None else msgspec.json.encode(event.details).decode() for event in events],
        [event.source for event in events],
        [event.timestamp for event in events if event.timestamp is not None],
    )
    return Submission(rows, lambda _rejected: b"", key=key)

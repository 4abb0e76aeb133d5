"""The collector's own events (`source="collector"`): changes of its state, stored as events.

They take the same write path as all events. While the database is unavailable they are written to stdout as JSON, and
stored when it is available again. Storing them causes no further own events.
"""

import asyncio
import logging
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
from brain_collector.ingest.duplicates import KeyUse, fingerprint_of
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.submission import Stored, Submission
from brain_collector.metrics import OWN_EVENTS_DROPPED, Metrics
from brain_collector.schema import Severity
from brain_events.wire import Event, new_key

SOURCE: Final = OWN_SOURCE
_FINGERPRINT: Final = fingerprint_of(b"", "lines")
"""The fingerprint of all own events: each group has a new idempotency key, so bodies need not be compared."""
CANARY: Final = "health_check"
"""The type of the own events that the canary reads back."""
MAX_WAITING: Final = 1_000
"""Maximum number of own events kept while the database is unavailable; then the oldest are dropped and counted."""

logger: Final = logging.getLogger(__name__)

OWN_EVENTS: Final = {
    "system_startup": "The collector started.",
    "system_shutdown": "The collector is shutting down.",
    "health_check": "`GET /health` was requested; `count` is the number of requests, as repeated ones are recorded "
    "together. Without requests for a while, the collector records one itself (`count` 0), to check that it can be "
    "read back.",
    "db_health_check": "`GET /health/db` was requested; `count` is the number of requests.",
    "database_lost": "The database stopped accepting writes; `reason` says why.",
    "database_back": "The database accepts writes again; `away_s` is how long it did not, in seconds.",
    "database_failed_over": "The database is another one than before: a standby was promoted (the same "
    "`identifier` and `database_oid`, a higher `timeline`), or a backup was restored; streams continue, with a gap if "
    "they may miss events.",
    "cache_lost": "Redis has failed for a second, or accepts no writes; requests are served from Postgres.",
    "cache_back": "Redis responds again; `away_s` is how long it did not, in seconds.",
    "engine_restarted": "An embedded engine died and was restarted.",
    "events_dropped": "Own events were dropped: the database was unavailable for too long, or storing them failed "
    "unexpectedly.",
    "api_key_created": "An API key was created; `by` is the caller.",
    "api_key_revoked": "An API key was revoked; `by` is the caller.",
    "rejections_dropped": "Rejected lines were not kept because there were too many; `count` is their number.",
    "canary_failed": "Acknowledged health checks are missing, or stored twice; `ids` lists them.",
    "input_rejected": "Requests contained events that were rejected; `count` is their number.",
}
"""Every type of own event, with its meaning."""


class Acknowledged(NamedTuple):
    """An own event whose commit was acknowledged, and its id."""

    id: int
    event: Event


class _Check(NamedTuple):
    severity: Severity
    message: str
    at_s: float
    suppressed: int


Submit = Callable[[Submission], Awaitable[Stored]]
"""`Writer.submit`."""


class OwnEvents:
    """Collects own events and stores them in one task, `run()`."""

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
        """Health checks whose commit was acknowledged; the canary removes those that it has checked."""
        self._is_unavailable = False  # while it is True, events are also written to stdout when they are logged
        self._checks: dict[str, _Check] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def waiting(self) -> int:
        """The number of events that are not stored yet."""
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
        if self._is_unavailable:
            _print(event)

    def check(self, event_type: str, severity: Severity, message: str, *, n: int = 1, **details: Any) -> None:
        """Record a repeated check: the first and a changed outcome at once, others once per interval with a count."""
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

    def record_rejected(self, n: int) -> None:
        """Record that a request held n rejected events."""
        self.check("input_rejected", "warning", "Events were rejected", n=n)

    def record_dropped_lines(self, n: int) -> None:
        """Record that n rejected lines were not kept."""
        self.check("rejections_dropped", "warning", "Rejected lines were not kept", n=n)

    async def run(self, submit: Submit) -> None:
        """Store what is logged until `close`; what is left then is stored if the first attempt succeeds."""
        while self._waiting or not self._closing.is_set():
            await self._wake.wait()
            self._wake.clear()
            events = list(self._waiting)
            self._waiting.clear()
            if events:
                self._being_stored = len(events)
                try:
                    await self._store(submit, events)
                except Exception:
                    logger.exception("%d own events were dropped after an unexpected error", len(events))
                    self._dropped += len(events)
                    self._metrics.add(OWN_EVENTS_DROPPED, n=len(events))
                self._being_stored = 0

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
        self._wake.set()

    async def _store(self, submit: Submit, events: list[Event]) -> None:
        """Store events under one idempotency key, with retries: an attempt that timed out may have succeeded."""
        key = new_key()
        while True:
            try:
                stored = await submit(_submission(events, key))
            except CollectorError:
                self._mark_unavailable(events)
                if self._closing.is_set():
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._retry_s)
            else:
                self._is_unavailable = False
                for id, event in enumerate(events, stored.first_id):
                    if event.event_type == CANARY:
                        self.acknowledged.append(Acknowledged(id, event))
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self.log("events_dropped", "warning", f"{dropped} own events were dropped", dropped=dropped)
                return

    def _mark_unavailable(self, events: list[Event]) -> None:
        if not self._is_unavailable:
            self._is_unavailable = True
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
    return Submission(rows, lambda _rejected: b"", key_use=KeyUse(key, SOURCE, _FINGERPRINT))

"""Report dropped events to the collector: one event with counts by reason, at most once a minute."""

import time
from datetime import UTC, datetime
from typing import Any

from brain_events._queue.batch import Batch, seal
from brain_events._record.event import encode
from brain_events.wire import Event

REPORT_INTERVAL_S = 60.0
REPORT_TYPE = "sdk_report"


class DropReport:
    """Makes the report: a batch outside all queues and counts, so that a report is neither dropped nor reported."""

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._reported: dict[str, int] = {}
        self._reporting: dict[str, int] = {}
        self._reported_limited: dict[str, int] = {}
        self._reporting_limited: dict[str, int] = {}
        self.batch: Batch | None = None
        self._not_before = 0.0

    def due(self, dropped: dict[str, int], limited: dict[str, int]) -> Batch | None:
        """Return the report to send now, if events were dropped since the last one; the same report until `sent`.

        Args:
            dropped: Number of events by reason.
            limited: Number of events by type, of those dropped for the reason `limited`.
        """
        if self.batch is None and time.monotonic() >= self._not_before:
            new = _increase(dropped, self._reported)
            if new:
                self._reporting, self._reporting_limited = dict(dropped), limited
                text = f"{sum(new.values())} events were dropped"
                details: dict[str, Any] = {"dropped": new}
                if more := _increase(limited, self._reported_limited):
                    details["limited"] = more
                severity = "info" if new.keys() == {"limited"} else "warning"  # which the application wanted
                event = Event(REPORT_TYPE, severity, text, details, self._source, datetime.now(UTC))
                self.batch = seal([encode(event)])
        return self.batch

    def sent(self) -> None:
        """Forget the report: the collector has taken or rejected it."""
        self._reported, self._reported_limited = self._reporting, self._reporting_limited
        self.batch = None
        self._not_before = time.monotonic() + REPORT_INTERVAL_S


def _increase(counts: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: more for name, n in counts.items() if (more := n - before.get(name, 0)) > 0}

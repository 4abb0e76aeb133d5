"""Report dropped events to the collector: one event with counts by reason, at most once a minute."""

import time
from datetime import UTC, datetime

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
        self.batch: Batch | None = None
        self._not_before = 0.0

    def due(self, dropped: dict[str, int]) -> Batch | None:
        """Return the report to send now, if events were dropped since the last one; the same report until `sent`."""
        if self.batch is None and time.monotonic() >= self._not_before:
            new = {reason: more for reason, n in dropped.items() if (more := n - self._reported.get(reason, 0)) > 0}
            if new:
                self._reporting = dict(dropped)
                text = f"{sum(new.values())} events were dropped"
                event = Event(REPORT_TYPE, "warning", text, {"dropped": new}, self._source, datetime.now(UTC))
                self.batch = seal([encode(event)])
        return self.batch

    def sent(self) -> None:
        """Forget the report: the collector has taken or rejected it."""
        self._reported = self._reporting
        self.batch = None
        self._not_before = time.monotonic() + REPORT_INTERVAL_S

"""What was dropped, for the collector: counts by reason come in, an event goes out, at most one a minute."""

import time
from datetime import UTC, datetime

from brain_events._queue.batch import Batch, seal
from brain_events._record.event import encode
from brain_events.wire import Event

REPORT_INTERVAL_S = 60.0
REPORT_TYPE = "sdk_report"


class DropReport:
    """A batch of its own, outside the account and outside all queues: it can neither be dropped nor lead to another."""

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._told: dict[str, int] = {}
        self._telling: dict[str, int] = {}
        self.batch: Batch | None = None
        self._not_before = 0.0

    def due(self, dropped: dict[str, int]) -> Batch | None:
        """Return the report to send now, if more was dropped than the collector was told; the same until `sent`."""
        if self.batch is None and time.monotonic() >= self._not_before:
            news = {reason: more for reason, n in dropped.items() if (more := n - self._told.get(reason, 0)) > 0}
            if news:
                self._telling = dict(dropped)
                text = f"{sum(news.values())} events were dropped"
                event = Event(REPORT_TYPE, "warning", text, {"dropped": news}, self._source, datetime.now(UTC))
                self.batch = seal([encode(event)])
        return self.batch

    def sent(self) -> None:
        """Forget the report, since the collector has answered for it."""
        self._told = self._telling
        self.batch = None
        self._not_before = time.monotonic() + REPORT_INTERVAL_S

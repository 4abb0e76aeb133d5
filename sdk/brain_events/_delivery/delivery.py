"""Delivery: send one batch, judge the response, and act on the verdict. One request at a time.

The collector is *away* after three failures in a row, or after a response that is not a collector's. Then `Queue` moves
new events to the outbox, and one batch at a time probes the collector, as `backoff` or Retry-After allow.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from brain_events._delivery.backoff import backoff_s
from brain_events._delivery.drop_report import DropReport
from brain_events._delivery.interrupts import Interrupts
from brain_events._delivery.transport import Response, Transport
from brain_events._delivery.verdict import Outcome, Verdict, judge
from brain_events._queue.batch import Batch
from brain_events._queue.journal import Journal
from brain_events._queue.memory_journal import MemoryJournal
from brain_events._queue.notices import Notices
from brain_events._queue.queue import WAKE_BYTES, Item, Queue
from brain_events._queue.stats import Stats
from brain_events._record.type_limits import TypeLimits
from brain_events.config import Config

AWAY_AFTER_FAILURES = 3
LOCK_TIMEOUT_S = 1.0
EXIT_SHARE_FOR_DISK = 0.3
"""Share of the time to close that is reserved for writing undelivered batches to the outbox."""


class Delivery:
    """Delivers the batches of one queue.

    `lock` guards everything except the caller's path; `log` never acquires it. `_turn` changes when a closing thread
    takes over: a worker that hung until then sees the change, and ends without touching anything.
    """

    def __init__(
        self,
        config: Config,
        transport: Transport,
        queue: Queue,
        notices: Notices,
        type_limits: TypeLimits | None = None,
    ) -> None:
        self.lock = threading.RLock()  # reentrant: a signal handler may call flush or stats inside either
        self.queue = queue
        self._config = config
        self._transport = transport
        self._notices = notices
        self._report = DropReport(config.source)
        self._type_limits = type_limits
        self._turn = 0
        self.finished = False
        self._delivered = 0
        self._rejected = 0
        self._unsent = 0
        self._failures = 0
        self._parked = False
        self._responded = False  # whether a collector responded to the last attempt
        self._not_before = 0.0  # monotonic time of the next attempt
        self._asked_not_before = 0.0  # the part of it that the server asked for
        self._problem: Outcome | None = None

    def step(self, timeout_s: float, waiting: Callable[[], AbstractContextManager[None]] = nullcontext) -> bool:
        """Seal due events, and make one attempt if its time has come; return whether a collector responded."""
        with self.lock:
            turn = self._turn
            self.queue.collect(away=self._is_away())
            due = self._next() if time.monotonic() >= self._not_before else None
        self._notices.emit()
        if due is None:
            return False
        item, batch = due
        response: Response | None = None
        try:
            with waiting():
                response = self._transport.send(batch, timeout_s)
            verdict = judge(response, batch.count)
        except Exception as error:  # noqa: BLE001 -- any failure of any transport is retried
            verdict = Verdict(Outcome.RETRY, reason=f"{type(error).__name__}: {error}")
        with self.lock:
            if turn == self._turn:
                self._act(item, batch, verdict, response)
                self._notify(batch, verdict)
        self._notices.emit()
        return self._responded

    def pause_s(self) -> float:
        """Return how long to sleep: until the next attempt, not at all, or for one interval."""
        with self.lock:
            wait_s = self._not_before - time.monotonic()
            if wait_s > 0:
                return wait_s if self.queue.outbox is None else min(wait_s, self._config.interval_s)
            self.queue.buffer.wake_at = WAKE_BYTES
            if self.queue.has_work() or self.queue.is_pressed() or self._due_report():
                return 0
            return self._config.interval_s

    def finish(self, timeout_s: float, *, hung: bool, interrupts: Interrupts) -> bool:
        """Take over from the worker: send the remaining events, or write them to the outbox.

        Never waits for a worker that hangs, or for a collector that is away while the outbox works. Return whether
        every event is delivered.
        """
        deadline = time.monotonic() + timeout_s
        if not self.lock.acquire(timeout=max(timeout_s, 0.05)):
            return False  # the worker hangs on a disk
        with self.lock:
            self.lock.release()
            if self.finished:
                return self._is_all_delivered()
            self.finished = True
            self._turn += 1
            self._not_before = self._asked_not_before
            self.queue.closing = True
            outbox, away = self.queue.outbox, hung or self._is_away()
        try:
            if outbox is None or not away:
                share = 0 if outbox is None else EXIT_SHARE_FOR_DISK
                self._drain(deadline - timeout_s * share, interrupts, patient=outbox is None)
            with self.lock:
                saved = self.queue.move_to_outbox()
            if not saved:
                self._drain(deadline, interrupts, patient=True)
        finally:  # also after a Ctrl-C
            with self.lock:
                self._turn += 1
                self.queue.move_to_outbox()
                self._unsent += self.queue.close()
                self._transport.close()
        self._notices.emit()
        return self._is_all_delivered()

    def stats(self) -> Stats:
        """Return the account of all events."""
        acquired = self.lock.acquire(timeout=LOCK_TIMEOUT_S)  # a worker that hangs on a disk may hold it
        try:
            dropped, buffer, journal, outbox = self._dropped(), self.queue.buffer, self.queue.journal, self.queue.outbox
            journaled = journal.taken + journal.count() if journal else 0
            parts = journal if isinstance(journal, MemoryJournal) else None
            return Stats(
                logged=buffer.taken + len(buffer.lines) + sum(buffer.dropped.values()) + journaled,
                adopted=(outbox.adopted if outbox else 0) + (parts.adopted if parts else 0),
                delivered=self._delivered,
                rejected=self._rejected,
                dropped={reason: n for reason, n in dropped.items() if n},
                spooled=self.queue.on_disk(),
                in_memory=self.queue.in_memory(),
                not_durable=journal.not_durable if isinstance(journal, Journal) else 0,
                memory_only=buffer.taken + len(buffer.lines),
                newer=(outbox.newer if outbox else 0) + (parts.newer if parts else 0),
            )
        finally:
            if acquired:
                self.lock.release()

    def _is_away(self) -> bool:
        return self._parked or self._failures >= AWAY_AFTER_FAILURES

    def _is_all_delivered(self) -> bool:
        return not self._unsent and not self.queue.has_unsettled()

    def _next(self) -> tuple[Item, Batch] | None:
        if report := self._due_report():
            return report, report
        return self.queue.next()

    def _due_report(self) -> Batch | None:
        """Return a report of dropped events, if there are any and a collector responds."""
        if not self._responded:
            return None
        dropped = {reason: n for reason, n in self._dropped().items() if reason != "before_send"}
        return self._report.due(dropped, self._type_limits.left_out() if self._type_limits else {})

    def _dropped(self) -> dict[str, int]:
        lost = Counter(self.queue.outbox.lost if self.queue.outbox else {})
        if isinstance(self.queue.journal, MemoryJournal):
            lost.update(self.queue.journal.lost)
        return self.queue.buffer.dropped | {"unsent": self._unsent} | lost

    def _drain(self, deadline: float, interrupts: Interrupts, *, patient: bool) -> None:
        """Send on the closing thread until nothing is left or time is up; unless `patient`, stop at a failure."""
        while self.queue.has_unsettled() or self._due_report():
            now = time.monotonic()
            if max(now, self._not_before) >= deadline:
                return
            with interrupts.allowed():
                time.sleep(max(self._not_before - now, 0))
            if not self.step(max(deadline - time.monotonic(), 0.001), interrupts.allowed):
                if not patient:
                    return
                time.sleep(0.001)

    def _act(self, item: Item, batch: Batch, verdict: Verdict, response: Response | None) -> None:
        """Carry out a verdict."""
        outcome = verdict.outcome
        if outcome is Outcome.HALVE and not self.queue.split(item, batch):
            outcome = Outcome.RETRY
        self._responded = outcome in {Outcome.SETTLED, Outcome.REJECTED, Outcome.HALVE}
        if item is self._report.batch:  # no back-off: the next batch shows whether the collector responds
            if self._responded:
                self._report.sent()
            return
        if not self._responded:
            self._back_off(outcome, response)
            if response is not None and response.status not in {429, 503}:
                self.queue.postpone(item)
            return
        self._failures, self._parked = 0, False
        self._not_before = self._asked_not_before = 0.0
        self._delivered += verdict.accepted
        self._rejected += verdict.rejected
        if outcome is Outcome.SETTLED:
            self.queue.settle(item)
        elif outcome is Outcome.REJECTED:
            self.queue.reject(item)

    def _back_off(self, outcome: Outcome, response: Response | None) -> None:
        now = time.monotonic()
        asked_s = response.retry_after_s if response else 0.0
        self._parked = outcome is Outcome.PARK
        delay_s = self._config.probe_interval_s
        if not self._parked:
            delay_s = backoff_s(self._failures, self._config.retry_base_s, self._config.retry_cap_s)
            self._failures += 1
        self._asked_not_before = now + asked_s
        self._not_before = now + max(asked_s, delay_s)

    def _notify(self, batch: Batch, verdict: Verdict) -> None:
        """Log when delivery starts to fail or works again, and when events are rejected."""
        url = self._config.url
        if verdict.rejected:
            text = "%s rejected %d of %d events: %s"
            self._notices.warn("rejected", text, url, verdict.rejected, batch.count, verdict.reason)
        problem = verdict.outcome if verdict.outcome in {Outcome.RETRY, Outcome.PARK} else None
        if problem is not self._problem:
            self._problem = problem
            if problem is None:
                self._notices.inform("%s accepts events again", url)
            else:
                text = "%s does not accept events; they are kept and sent again later: %s"
                self._notices.warn(problem.name, text, url, verdict.reason)

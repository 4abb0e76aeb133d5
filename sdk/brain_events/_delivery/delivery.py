"""Delivery: one batch goes out, its answer is judged, and what it says is done. One request at a time.

The collector is *away* after three failures in a row, or after an answer that is not a collector's; then `_queue` moves
what comes in to the outbox, and one batch at a time probes, when `_retry` or Retry-After say so.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from brain_events._delivery.backoff import backoff_s
from brain_events._delivery.drop_report import DropReport
from brain_events._delivery.interrupts import Interrupts
from brain_events._delivery.transport import Answer, Transport
from brain_events._delivery.verdict import Judgement, Verdict, judge
from brain_events._queue.batch import Batch
from brain_events._queue.notices import Notices
from brain_events._queue.queue import WAKE_BYTES, Item, Queue
from brain_events._queue.stats import Stats
from brain_events.config import Config

AWAY_AFTER_FAILURES = 3
LOCK_TIMEOUT_S = 1.0
EXIT_SHARE_FOR_DISK = 0.3
"""Of the time to close: kept for writing what the collector did not take."""


class Delivery:
    """`lock` guards everything but the caller's path; no caller of `log` ever takes it.

    `_turn` changes when a closing thread takes over: a worker that hung meanwhile finds it changed, and leaves without
    touching anything.
    """

    def __init__(self, config: Config, transport: Transport, queue: Queue, notices: Notices) -> None:
        self.lock = threading.RLock()  # reentrant: a signal handler may call flush or stats inside either
        self.queue = queue
        self._config = config
        self._transport = transport
        self._notices = notices
        self._report = DropReport(config.source)
        self._turn = 0
        self.finished = False
        self._delivered = 0
        self._rejected = 0
        self._unsent = 0
        self._failures = 0
        self._parked = False
        self._answered = False  # the last attempt was
        self._not_before = 0.0  # monotonic time of the next attempt
        self._asked_not_before = 0.0  # the part of it that the server asked for
        self._problem: Verdict | None = None

    def step(self, timeout_s: float, waiting: Callable[[], AbstractContextManager[None]] = nullcontext) -> bool:
        """Seal what is due, and make one attempt if its time has come; return whether the collector answered it."""
        with self.lock:
            turn = self._turn
            self.queue.collect(away=self._is_away())
            found = self._next() if time.monotonic() >= self._not_before else None
        self._notices.emit()
        if found is None:
            return False
        item, batch = found
        answer: Answer | None = None
        try:
            with waiting():
                answer = self._transport.send(batch, timeout_s)
            judgement = judge(answer, batch.count)
        except Exception as error:  # noqa: BLE001 -- any failure of any transport is a reason to try again
            judgement = Judgement(Verdict.RETRY, reason=f"{type(error).__name__}: {error}")
        with self.lock:
            if turn == self._turn:
                self._act(item, batch, judgement, answer)
                self._explain(batch, judgement)
        self._notices.emit()
        return self._answered

    def pause_s(self) -> float:
        """Return how long to sleep: till the next attempt, not at all, or an interval."""
        with self.lock:
            wait_s = self._not_before - time.monotonic()
            if wait_s > 0:
                return wait_s if self.queue.outbox is None else min(wait_s, self._config.interval_s)
            self.queue.buffer.wake_at = WAKE_BYTES
            if self.queue.has_work() or self.queue.is_pressed() or self._due_report():
                return 0
            return self._config.interval_s

    def finish(self, timeout_s: float, *, hung: bool, interrupts: Interrupts) -> bool:
        """Take over from the worker: send what is left, or write it to the outbox; return whether all is delivered.

        Whoever may wait for ever is left alone: a worker that hangs, and the network if the outbox can be had.
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
                safe = self.queue.spool()
            if not safe:
                self._drain(deadline, interrupts, patient=True)
        finally:  # after a Ctrl-C, too
            with self.lock:
                self._turn += 1
                self.queue.spool()
                self._unsent += self.queue.close()
                self._transport.close()
        self._notices.emit()
        return self._is_all_delivered()

    def stats(self) -> Stats:
        held = self.lock.acquire(timeout=LOCK_TIMEOUT_S)  # a worker that hangs on a disk has it
        try:
            dropped, buffer, journal, outbox = self._dropped(), self.queue.buffer, self.queue.journal, self.queue.outbox
            journaled = journal.taken + journal.count() if journal else 0
            return Stats(
                logged=buffer.taken + len(buffer.lines) + sum(buffer.dropped.values()) + journaled,
                adopted=outbox.adopted if outbox else 0,
                delivered=self._delivered,
                rejected=self._rejected,
                dropped={reason: n for reason, n in dropped.items() if n},
                spooled=self.queue.spooled(),
                in_memory=self.queue.in_memory(),
                not_durable=journal.not_durable if journal else 0,
                newer=outbox.newer if outbox else 0,
            )
        finally:
            if held:
                self.lock.release()

    def _is_away(self) -> bool:
        return self._parked or self._failures >= AWAY_AFTER_FAILURES

    def _is_all_delivered(self) -> bool:
        return not self._unsent and not self.queue.owes()

    def _next(self) -> tuple[Item, Batch] | None:
        if report := self._due_report():
            return report, report
        return self.queue.next()

    def _due_report(self) -> Batch | None:
        """Return a report of what was lost, if there is any and the collector is there."""
        if not self._answered:
            return None
        return self._report.due({reason: n for reason, n in self._dropped().items() if reason != "before_send"})

    def _dropped(self) -> dict[str, int]:
        lost = self.queue.outbox.lost if self.queue.outbox else {}
        return self.queue.buffer.dropped | {"unsent": self._unsent} | lost

    def _drain(self, deadline: float, interrupts: Interrupts, *, patient: bool) -> None:
        """Send on the closing thread until nothing is left or the time is over; if not `patient`, until it fails."""
        while self.queue.owes() or self._due_report():
            now = time.monotonic()
            if max(now, self._not_before) >= deadline:
                return
            with interrupts.let_in():
                time.sleep(max(self._not_before - now, 0))
            if not self.step(max(deadline - time.monotonic(), 0.001), interrupts.let_in):
                if not patient:
                    return
                time.sleep(0.001)

    def _act(self, item: Item, batch: Batch, judgement: Judgement, answer: Answer | None) -> None:
        verdict = judgement.verdict
        if verdict is Verdict.HALVE and not self.queue.split(item, batch):
            verdict = Verdict.RETRY
        self._answered = verdict in {Verdict.SETTLED, Verdict.REJECTED, Verdict.HALVE}
        if item is self._report.batch:  # whether the collector is there, the next batch will tell
            if self._answered:
                self._report.sent()
            return
        if not self._answered:
            self._back_off(verdict, answer)
            if answer is not None and answer.status not in {429, 503}:
                self.queue.postpone(item)
            return
        self._failures, self._parked = 0, False
        self._not_before = self._asked_not_before = 0.0
        self._delivered += judgement.accepted
        self._rejected += judgement.rejected
        if verdict is Verdict.SETTLED:
            self.queue.settle(item)
        elif verdict is Verdict.REJECTED:
            self.queue.reject(item)

    def _back_off(self, verdict: Verdict, answer: Answer | None) -> None:
        now = time.monotonic()
        asked_s = answer.retry_after_s if answer else 0.0
        self._parked = verdict is Verdict.PARK
        delay_s = self._config.probe_interval_s
        if not self._parked:
            delay_s = backoff_s(self._failures, self._config.retry_base_s, self._config.retry_cap_s)
            self._failures += 1
        self._asked_not_before = now + asked_s
        self._not_before = now + max(asked_s, delay_s)

    def _explain(self, batch: Batch, judgement: Judgement) -> None:
        """Say when the way to the collector breaks or heals, and what it refused."""
        where = self._config.url
        if judgement.rejected:
            text = "%s refused %d of %d events: %s"
            self._notices.warn("rejected", text, where, judgement.rejected, batch.count, judgement.reason)
        problem = judgement.verdict if judgement.verdict in {Verdict.RETRY, Verdict.PARK} else None
        if problem is not self._problem:
            self._problem = problem
            if problem is None:
                self._notices.inform("%s takes events again", where)
            else:
                text = "%s does not take events, they are kept and sent again: %s"
                self._notices.warn(problem.name, text, where, judgement.reason)

"""Delivery: lines come from the buffer, batches go to the transport, until each is settled. One daemon thread.

The loop has three cases: enough lines, the timer, the end. Batches settle in the order in which their events were
logged; while the first cannot be delivered, all wait. Whatever an answer means is decided in `_answer`.
"""

import logging
import threading
import time
from collections import deque

from brain_events._answer import Judgement, Verdict, judge
from brain_events._batch import Batch, halve, seal
from brain_events._buffer import NEVER, Buffer
from brain_events._retry import backoff_s
from brain_events._stats import Stats
from brain_events._transport import Answer, Transport
from brain_events.config import Config
from brain_events.context import SENDING, WORKER_THREAD

BATCH_MAX_EVENTS = 5_000
BATCH_MAX_BYTES = 1024 * 1024
WAKE_BYTES = 128 * 1024  # about 500 events
WARN_INTERVAL_S = 60.0
FLUSH_POLL_S = 0.005

logger = logging.getLogger("brain_events")


class Worker:
    """Delivers what is in `buffer`, in a thread that starts with the first event.

    `_lock` guards everything but the buffer; no caller of `log` ever takes it. `_turn` changes when a closing thread
    takes over: a worker that hung meanwhile finds it changed, and leaves without touching anything.
    """

    def __init__(self, config: Config, transport: Transport) -> None:
        self.buffer = Buffer(config.max_buffer_bytes, self.wake)
        self._config = config
        self._transport = transport
        self._lock = threading.RLock()  # reentrant: a signal handler may call flush or stats inside either
        self._starting = threading.Lock()  # taken once, for as long as the thread lives
        self._bell = threading.Lock()  # held while nobody rings; a release wakes the worker
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._turn = 0
        self._batches: deque[Batch] = deque()  # sealed, not settled; the first is the one under way
        self._delivered = 0
        self._rejected = 0
        self._unsent = 0
        self._flush_to = 0
        self._failures = 0
        self._not_before = 0.0  # monotonic time of the next attempt
        self._asked_not_before = 0.0  # the part of it that the server asked for
        self._problem: Verdict | None = None
        self._warned: dict[str, float] = {}

    def wake(self) -> None:
        """Start the thread, or ring for it; called by `Buffer.put`, so without waiting and from anywhere."""
        self.buffer.wake_at = NEVER
        if self._thread is None:
            self._start()
        else:
            self._ring()

    def flush(self, timeout_s: float) -> bool:
        """Hurry, and return True when everything that was logged before is settled, False when it takes longer."""
        if SENDING.get():  # a thread that delivers cannot wait for itself
            return False
        deadline = time.monotonic() + timeout_s
        with self._lock:
            target = self.buffer.taken + len(self.buffer.lines)
            self._flush_to = max(self._flush_to, target)
        while self._settled() < target:
            if time.monotonic() >= deadline:
                return False
            self.wake()
            time.sleep(FLUSH_POLL_S)
        return True

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left within `timeout_s`, first in the worker, then here; return whether nothing was lost."""
        deadline = time.monotonic() + timeout_s
        self.buffer.closed = True
        self._stopping = True
        self._ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s / 2)
        with self._lock:
            self._turn += 1
            self._not_before = self._asked_not_before
        sending = SENDING.get()
        SENDING.set(True)
        try:
            self._drain(deadline)
        finally:
            SENDING.set(sending)
        return self._abandon()

    def stats(self) -> Stats:
        with self._lock:
            waiting = len(self.buffer.lines)
            dropped = {reason: n for reason, n in (self.buffer.dropped | {"unsent": self._unsent}).items() if n}
            return Stats(
                logged=self.buffer.taken + waiting + sum(dropped.values()) - self._unsent,
                delivered=self._delivered,
                rejected=self._rejected,
                dropped=dropped,
                in_memory=waiting + sum(batch.count for batch in self._batches),
            )

    def _ring(self) -> None:
        if self._bell.locked():
            try:
                self._bell.release()
            except RuntimeError:  # somebody rang at the same moment
                return

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._run, name=WORKER_THREAD, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or has no thread left: close() will deliver
            self.buffer.wake_at = 0
            self._starting.release()
        else:
            self._thread = thread

    def _run(self) -> None:
        SENDING.set(True)
        while not self._stopping:
            self._bell.acquire(timeout=self._pause_s())
            if not self._stopping:
                try:
                    self._step(self._config.request_timeout_s)
                except Exception:  # a defect of ours: the thread must live on, or all that follows is lost
                    logger.exception("the attempt to deliver failed")
                    self._not_before = time.monotonic() + self._config.retry_cap_s

    def _pause_s(self) -> float:
        """Return how long to sleep: till the next attempt, not at all, or an interval."""
        wait_s = self._not_before - time.monotonic()
        if wait_s > 0:
            return wait_s
        if self._batches or self._flush_to > self._settled():
            return 0
        self.buffer.wake_at = WAKE_BYTES
        return 0 if self.buffer.in_memory() > WAKE_BYTES else self._config.interval_s

    def _step(self, timeout_s: float) -> None:
        """Make one attempt to deliver the oldest batch, if its time has come."""
        with self._lock:
            turn = self._turn
            batch = self._oldest() if time.monotonic() >= self._not_before else None
        if batch is None:
            return
        answer: Answer | None = None
        try:
            answer = self._transport.send(batch, timeout_s)
            judgement = judge(answer, batch.count)
        except Exception as error:  # noqa: BLE001 -- any failure of any transport is a reason to try again
            judgement = Judgement(Verdict.RETRY, reason=f"{type(error).__name__}: {error}")
        with self._lock:
            if turn != self._turn:
                return
            self._settle(batch, judgement, answer)
        self._report(batch, judgement)

    def _oldest(self) -> Batch | None:
        if not self._batches and (lines := self.buffer.take(BATCH_MAX_EVENTS, BATCH_MAX_BYTES)):
            self._batches.append(seal(lines))
        return self._batches[0] if self._batches else None

    def _settle(self, batch: Batch, judgement: Judgement, answer: Answer | None) -> None:
        self._not_before = self._asked_not_before = 0.0
        match judgement.verdict:
            case Verdict.SETTLED | Verdict.REJECTED:
                self._batches.popleft()
                self._delivered += judgement.accepted
                self._rejected += judgement.rejected
                self.buffer.released += batch.line_bytes
                self._failures = 0
            case Verdict.HALVE:
                self._batches.popleft()
                self._batches.extendleft(reversed(halve(batch)))
            case Verdict.RETRY:
                now = time.monotonic()
                self._asked_not_before = now + (answer.retry_after_s if answer else 0.0)
                delay_s = backoff_s(self._failures, self._config.retry_base_s, self._config.retry_cap_s)
                self._not_before = max(self._asked_not_before, now + delay_s)
                self._failures += 1
            case Verdict.PARK:
                self._not_before = time.monotonic() + self._config.probe_interval_s

    def _settled(self) -> int:
        return self._delivered + self._rejected + self._unsent

    def _drain(self, deadline: float) -> None:
        """Deliver on the closing thread until nothing is left, or the next attempt would come too late."""
        while self._batches or self.buffer.lines:
            now = time.monotonic()
            if max(now, self._not_before) >= deadline:
                return
            time.sleep(max(self._not_before - now, 0))
            self._step(max(deadline - time.monotonic(), 0.001))

    def _abandon(self) -> bool:
        """Let go of everything, and count it; return whether there was nothing."""
        with self._lock:
            self._turn += 1
            self._transport.close()
            left = sum(batch.count for batch in self._batches) + len(self.buffer.take(NEVER, NEVER))
            self._batches.clear()
            self._unsent += left
            self.buffer.released = self.buffer.added
        return not left

    def _report(self, batch: Batch, judgement: Judgement) -> None:
        """Log, on our own logger, when the way to the collector breaks or heals, and what it refused."""
        where = self._config.url
        if judgement.rejected:
            self._warn(
                "rejected", "%s refused %d of %d events: %s", where, judgement.rejected, batch.count, judgement.reason
            )
        problem = judgement.verdict if judgement.verdict in {Verdict.RETRY, Verdict.PARK} else None
        if problem is not self._problem:
            self._problem = problem
            if problem is None:
                logger.info("%s takes events again", where)
            else:
                self._warn(
                    problem.name, "%s does not take events, they are kept and sent again: %s", where, judgement.reason
                )

    def _warn(self, kind: str, text: str, *args: object) -> None:
        now = time.monotonic()
        if now >= self._warned.get(kind, 0.0) + WARN_INTERVAL_S or kind not in self._warned:
            self._warned[kind] = now
            logger.warning(text, *args)

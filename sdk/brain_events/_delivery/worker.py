"""The worker: one daemon thread, which starts with the first event and lets `_delivery` make one step after another.

The loop has three cases: enough has come, the timer, the end.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable

from brain_events._delivery.delivery import Delivery
from brain_events._delivery.interrupts import Interrupts
from brain_events._delivery.transport import Transport
from brain_events._queue.batch import LastLook
from brain_events._queue.buffer import NEVER, Buffer
from brain_events._queue.journal import Journal
from brain_events._queue.notices import Notices, say
from brain_events._queue.outbox import Outbox
from brain_events._queue.queue import Queue
from brain_events._queue.stats import Stats
from brain_events._record.event import encode
from brain_events._record.redact import scrub
from brain_events.config import Config
from brain_events.context import SENDING, WORKER_THREAD
from brain_events.wire import Event

FLUSH_POLL_S = 0.005
INTERRUPTED_S = 0.5
_workers: "weakref.WeakSet[Worker]" = weakref.WeakSet()
UNSEARCHED = encode(Event("unreadable", "error", "an event that could not be searched for secrets"))


class Worker:
    """Delivers what `put` takes in. `put` is called on the application's threads, and never waits for this one."""

    def __init__(self, config: Config, transport: Transport) -> None:
        notices = Notices()
        self.buffer = Buffer(config.max_buffer_bytes, self.wake)
        self._outbox = _outbox(config, notices)
        self._journal = Journal(self.buffer, self._outbox, notices) if config.durable and self._outbox else None
        self.put: Callable[[bytes, str], None] = self._journal.put if self._journal else self.buffer.put
        queue = Queue(
            self.buffer,
            self._outbox,
            self._journal,
            interval_s=config.interval_s,
            spool_over_bytes=config.max_buffer_bytes // 2,
            last_look=_last_look(config),
        )
        self.delivery = Delivery(config, transport, queue, notices)
        self._config = config
        self._starting = threading.Lock()  # taken once, for as long as the thread lives
        self._bell = threading.Lock()  # held while nobody rings; a release wakes the worker
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._stopping = False
        _workers.add(self)

    def wake(self) -> None:
        """Start the thread, or ring for it; called by `Buffer.put`, so without waiting and from anywhere."""
        self.buffer.wake_at = NEVER
        if self._thread is None:
            self._start()
        else:
            self._ring()

    def flushing(self) -> Callable[[], bool | None]:
        """Hurry, and return what tells how far it is: None while under way, then whether all is answered for.

        It must be asked again and again, with pauses of `FLUSH_POLL_S`.
        """
        if SENDING.get():  # a thread that delivers cannot wait for itself
            return lambda: False
        queue = self.delivery.queue
        with self.delivery.lock:
            mark = queue.mark()

        def progress() -> bool | None:
            with self.delivery.lock:
                if queue.is_past(mark):
                    return not queue.has_lost(mark)
            self.wake()
            return None

        return progress

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left within `timeout_s`, first in the worker, then here; return whether all is delivered."""
        deadline = time.monotonic() + timeout_s
        self.buffer.closed = True
        self._stopping = True
        self._ring()
        sending = SENDING.get()
        SENDING.set(True)
        try:
            with Interrupts() as interrupts:
                return self._close(deadline, interrupts)
        finally:
            SENDING.set(sending)

    def release(self) -> None:
        """Let go of descriptors. Takes no lock."""
        if self._outbox:
            self._outbox.release()
        if self._journal:
            self._journal.release()

    def stats(self) -> Stats:
        return self.delivery.stats()

    def _close(self, deadline: float, interrupts: Interrupts) -> bool:
        try:
            hung = self._is_hung((deadline - time.monotonic()) / 2, interrupts)
            return self.delivery.finish(max(deadline - time.monotonic(), 0.0), hung=hung, interrupts=interrupts)
        except BaseException:  # Ctrl-C, of somebody who does not want to wait: what is left goes to the outbox
            self.delivery.finish(INTERRUPTED_S, hung=True, interrupts=interrupts)
            raise

    def _is_hung(self, timeout_s: float, interrupts: Interrupts) -> bool:
        if self._thread is None or self._thread is threading.current_thread():
            return False
        if not self.delivery.finished:
            with interrupts.let_in():
                self._thread.join(max(timeout_s, 0.0))
        return self._thread.is_alive()

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
            try:
                self._bell.acquire(timeout=self.delivery.pause_s())
                if not self._stopping:
                    self.delivery.step(self._config.request_timeout_s)
            except BaseException:  # noqa: BLE001 -- also SystemExit, of a transport or a finalizer that runs here
                say(logging.ERROR, "the attempt to deliver failed", exc_info=True)  # else all that follows is lost
                time.sleep(min(self._config.retry_cap_s, 1.0))


def release_all() -> None:
    """Let go, in a forked child, of the parent's descriptors, those of clients that were not closed but forgotten too.

    Takes no lock: a thread of the parent may hold it.
    """
    for worker in list(_workers):
        worker.release()


def _outbox(config: Config, notices: Notices) -> Outbox | None:
    root, destination = config.outbox_dir(), config.url.rstrip("/")
    if root is None:
        return None
    return Outbox(str(root), destination, notices, max_bytes=config.spool_max_bytes, fsync=config.fsync)


def _last_look(config: Config) -> LastLook:
    """Return the search for secrets in texts: too slow for the application's threads, in time for all that leaves."""
    max_bytes, allowed_keys = config.max_event_bytes, config.allowed_keys

    def look(line: bytes) -> bytes:
        try:
            return scrub(line, max_bytes, allowed_keys)
        except Exception:  # noqa: BLE001 -- a defect of ours; what was not searched must not leave
            return UNSEARCHED

    return look

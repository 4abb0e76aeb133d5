"""The worker: one daemon thread, which starts with the first event and runs one step of `Delivery` after another.

The loop has three cases: the buffer holds enough, the timer fires, the client closes.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable

from brain_events._delivery.delivery import Delivery
from brain_events._delivery.interrupts import Interrupts
from brain_events._delivery.transport import Transport
from brain_events._queue import tmpfs
from brain_events._queue.batch import Scrub
from brain_events._queue.buffer import NEVER, Buffer
from brain_events._queue.journal import Journal
from brain_events._queue.memory_journal import MemoryJournal
from brain_events._queue.notices import Notices, log
from brain_events._queue.outbox import Outbox
from brain_events._queue.queue import Queue
from brain_events._queue.stats import Stats
from brain_events._record.event import encode
from brain_events._record.limits import limits_of
from brain_events._record.redact import scrub
from brain_events._record.type_limits import TypeLimits
from brain_events.config import Config
from brain_events.context import SENDING, WORKER_THREAD
from brain_events.wire import Event

FLUSH_POLL_S = 0.005
INTERRUPTED_S = 0.5
_workers: "weakref.WeakSet[Worker]" = weakref.WeakSet()
UNSEARCHABLE = encode(Event("unreadable", "error", "an event that could not be searched for secrets"))


class Worker:
    """Delivers the events passed to `put`, which the application's threads call, and which never waits for this one."""

    def __init__(self, config: Config, transport: Transport, type_limits: TypeLimits | None = None) -> None:
        notices = Notices()
        self.buffer = Buffer(config.max_buffer_bytes, self.wake)
        self._outbox = _outbox(config, notices)
        self.unprotected: str | None = None
        """Why there is no journal that outlives the process, in default mode; None if there is one."""
        self._journal = self._open_journal(config, notices)
        self.put: Callable[[bytes, str], None] = self._journal.put if self._journal else self.buffer.put
        queue = Queue(
            self.buffer,
            self._outbox,
            self._journal,
            interval_s=config.interval_s,
            crowded_bytes=config.max_buffer_bytes // 2,
            scrub=_scrub(config),
        )
        self.delivery = Delivery(config, transport, queue, notices, type_limits)
        self._config = config
        self._starting = threading.Lock()  # acquired once, for as long as the thread lives
        self._asleep = threading.Lock()  # held while there is no reason to wake; releasing it wakes the worker
        self._asleep.acquire()
        self._thread: threading.Thread | None = None
        self._stopping = False
        _workers.add(self)

    def wake(self) -> None:
        """Start the thread, or wake it. `Buffer.put` calls this on any thread, so it never waits."""
        self.buffer.wake_at = NEVER
        if self._thread is None:
            self._start()
        else:
            self._wake_thread()

    def start_flush(self) -> Callable[[], bool | None]:
        """Start to flush, and return a function that returns None while it runs, then whether all is delivered.

        Call that function repeatedly, with pauses of `FLUSH_POLL_S`.
        """
        if SENDING.get():  # the thread that delivers cannot wait for itself
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
        """Deliver the remaining events within `timeout_s`, first in the worker, then here.

        Return whether every event is delivered.
        """
        deadline = time.monotonic() + timeout_s
        self.buffer.closed = True
        self._stopping = True
        self._wake_thread()
        sending = SENDING.get()
        SENDING.set(True)
        try:
            with Interrupts() as interrupts:
                return self._close(deadline, interrupts)
        finally:
            SENDING.set(sending)

    def release(self) -> None:
        """Close file descriptors, without acquiring a lock."""
        if self._outbox:
            self._outbox.release()
        if self._journal:
            self._journal.release()

    def stats(self) -> Stats:
        """Return the account of all events."""
        return self.delivery.stats()

    def hold(self) -> None:
        """Prepare for a fork, without acquiring a lock."""
        if isinstance(self._journal, MemoryJournal):
            self._journal.hold()

    def resume(self) -> None:
        """Continue after a fork, in the parent."""
        if isinstance(self._journal, MemoryJournal):
            self._journal.resume()

    def _open_journal(self, config: Config, notices: Notices) -> Journal | MemoryJournal | None:
        if config.durable and self._outbox:
            return Journal(self.buffer, self._outbox, notices)
        directories = config.journal_dirs()
        if not directories:
            return None
        try:
            directory = tmpfs.find(directories)
        except tmpfs.NoTmpfsError as error:
            self.unprotected = str(error)
            return None
        return MemoryJournal(
            self.buffer,
            notices,
            directory=directory,
            destination=config.url.rstrip("/"),
            outbox=str(config.outbox_dir()),
            max_bytes=config.journal_max_bytes,
            scrub=_scrub(config),
        )

    def _close(self, deadline: float, interrupts: Interrupts) -> bool:
        try:
            hung = self._is_hung((deadline - time.monotonic()) / 2, interrupts)
            return self.delivery.finish(max(deadline - time.monotonic(), 0.0), hung=hung, interrupts=interrupts)
        except BaseException:  # a Ctrl-C: do not wait, but write the remaining events to the outbox
            self.delivery.finish(INTERRUPTED_S, hung=True, interrupts=interrupts)
            raise

    def _is_hung(self, timeout_s: float, interrupts: Interrupts) -> bool:
        if self._thread is None or self._thread is threading.current_thread():
            return False
        if not self.delivery.finished:
            with interrupts.allowed():
                self._thread.join(max(timeout_s, 0.0))
        return self._thread.is_alive()

    def _wake_thread(self) -> None:
        if self._asleep.locked():
            try:
                self._asleep.release()
            except RuntimeError:  # another thread released it at the same moment
                return

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._run, name=WORKER_THREAD, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter shuts down, or no thread can be created: `close` will deliver
            self.buffer.wake_at = 0
            self._starting.release()
        else:
            self._thread = thread

    def _run(self) -> None:
        SENDING.set(True)
        while not self._stopping:
            try:
                self._asleep.acquire(timeout=self.delivery.pause_s())
                if not self._stopping:
                    self.delivery.step(self._config.request_timeout_s)
            except BaseException:  # noqa: BLE001 -- also SystemExit, by a transport or a finalizer; delivery must not end
                log(logging.ERROR, "the attempt to deliver failed", exc_info=True)
                time.sleep(min(self._config.retry_cap_s, 1.0))


def release_all() -> None:
    """Close the parent's file descriptors in a forked child, also those of clients that were forgotten without `close`.

    Acquires no lock, since a thread of the parent may hold it.
    """
    for worker in list(_workers):
        worker.release()


def hold_all() -> None:
    """Prepare every worker for a fork."""
    for worker in _all_workers():
        worker.hold()


def resume_all() -> None:
    """Continue after a fork, in the parent."""
    for worker in _all_workers():
        worker.resume()


def _all_workers() -> list[Worker]:
    while True:
        try:
            return list(_workers)
        except RuntimeError:  # another thread has just made a client
            continue


def _outbox(config: Config, notices: Notices) -> Outbox | None:
    root, destination = config.outbox_dir(), config.url.rstrip("/")
    if root is None:
        return None
    return Outbox(str(root), destination, notices, max_bytes=config.spool_max_bytes, fsync=config.fsync)


def _scrub(config: Config) -> Scrub:
    """Return the function that removes secrets from texts: too slow for the application's threads, so it runs here."""
    limits = limits_of(config)

    def scrub_line(line: bytes) -> bytes:
        try:
            return scrub(line, limits)
        except Exception:  # noqa: BLE001 -- a defect of `scrub`; a line that was not searched must not leave
            return UNSEARCHABLE

    return scrub_line

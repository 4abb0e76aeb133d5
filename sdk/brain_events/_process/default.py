"""The process-wide client, which `init` creates and `log_system_event` uses."""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from brain_events._delivery.transport import Transport
from brain_events._process.early import Early
from brain_events._process.late import Late, close_and_report, write_line
from brain_events._process.termination import Termination
from brain_events._process.uncaught import UncaughtExceptions
from brain_events._queue.notices import log
from brain_events._queue.stats import Stats
from brain_events.client import Client
from brain_events.config import (
    DEFAULT_INTERVAL_S,
    DEFAULT_JOURNAL_DIR,
    DEFAULT_JOURNAL_MAX_BYTES,
    DEFAULT_MAX_BUFFER_BYTES,
    DEFAULT_MAX_EVENT_BYTES,
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_SPOOL_DIR,
    DEFAULT_SPOOL_MAX_BYTES,
    Config,
    captures_uncaught,
    inits_children,
    load,
)
from brain_events.wire import Event

EXIT_BUDGET_S = 2.0

_is_init_forgotten = True
_uncaught = UncaughtExceptions()


def init(
    url: str | None = None,
    api_key: str | None = None,
    source: str | None = None,
    *,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    max_buffer_bytes: int = DEFAULT_MAX_BUFFER_BYTES,
    allowed_keys: Iterable[str] = (),
    add_where: bool = True,
    limits: Mapping[str, tuple[float, float]] | None = None,
    before_send: Callable[[Event], Event | None] | None = None,
    interval_s: float = DEFAULT_INTERVAL_S,
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S,
    ca_bundle: str | None = None,
    spool_dir: str | os.PathLike[str] | None = DEFAULT_SPOOL_DIR,
    spool_max_bytes: int = DEFAULT_SPOOL_MAX_BYTES,
    journal_dir: str | os.PathLike[str] | None = DEFAULT_JOURNAL_DIR,
    journal_max_bytes: int = DEFAULT_JOURNAL_MAX_BYTES,
    durable: bool | None = None,
    fsync: bool | None = None,
    capture_uncaught: bool | None = None,
    transport: Transport | None = None,
) -> None:
    """Start to send the events of this process to the collector at `url`.

    Call it once, early; the last 256 events that were logged before are delivered, too. A second call replaces the
    first one, whose events are delivered before the call returns (within 2 s). No thread starts before the first event,
    and none in a parent process that only forks.

    Args:
        url: The collector's address; by default `BRAIN_EVENTS_URL`. If neither is set, one warning is logged and
            nothing is sent.
        api_key: The collector's API key; by default `BRAIN_EVENTS_API_KEY`.
        source: The `source` of events without one; by default `BRAIN_EVENTS_SOURCE`.
        max_event_bytes: Maximum size of an encoded event, in bytes; a larger event is truncated and marked.
        max_buffer_bytes: Maximum size of the encoded events in memory, in bytes. Events that exceed it are dropped and
            counted. The last fifth is reserved for `error` and `critical`.
        allowed_keys: Details keys that look like the name of a secret but are not; their values are kept. Case matters.
        add_where: Add `where` to the details of an exception: file and function of the innermost frame of the
            application.
        limits: Limits for noisy event types: by type, how many events may be logged at once, and how many per second
            after that. Events of `error` and `critical` are not limited; the others are counted as `limited`, and
            reported once a minute.
        before_send: Called with each event, in the thread that logs it; returns the event to send, or None to drop it.
            If it raises, the event is dropped. Events that it logs itself are not sent.
        interval_s: Maximum time that an event waits for its batch to fill, in seconds.
        request_timeout_s: Maximum time for one request, response included, in seconds.
        ca_bundle: A file of CA certificates (PEM) to trust instead of the system's; by default
            `BRAIN_EVENTS_CA_BUNDLE`.
        spool_dir: The directory of the outbox, which keeps batches that cannot be delivered now, for this process or
            the next one to send. It is created when it is first needed. By default `BRAIN_EVENTS_SPOOL_DIR`, or else
            `~/.local/state/brain-events`. None (`none` in the environment) means no outbox: events that are not
            delivered when the process ends are lost.
        spool_max_bytes: Maximum size of this process's part of the outbox, in bytes.
        journal_dir: The directory of the journal, into which each event is written before `log_system_event` returns,
            so that `kill -9` does not lose it while the machine runs. It must be on tmpfs. By default
            `BRAIN_EVENTS_JOURNAL_DIR`, or else `/dev/shm` or XDG_RUNTIME_DIR. None (`none` in the environment), or no
            `spool_dir`, means no journal.
        journal_max_bytes: Maximum size of this process's journal, in bytes; events that exceed it are kept in the
            process only.
        durable: Write each event to the outbox instead, so that a restart of the machine or the container does not
            lose it either; by default `BRAIN_EVENTS_DURABLE`.
        fsync: Wait until the storage device has each write, so that a power loss does not lose it; by default
            `BRAIN_EVENTS_FSYNC`.
        capture_uncaught: Log each uncaught exception as an event `uncaught_exception`, unless it was logged before: of
            the main thread (`critical`), of other threads, and those that cannot be raised, as in `__del__`. The hooks
            that were there before are called as well. By default `BRAIN_EVENTS_CAPTURE_UNCAUGHT`, or else True.
        transport: Replaces HTTP, such as `brain_events.testing.MemoryTransport`.

    Raises:
        ConfigError: A setting cannot be used.
    """
    global _current, _is_init_forgotten  # noqa: PLW0603 -- the one place of process-wide state
    _is_init_forgotten = False
    is_captured = captures_uncaught(capture_uncaught, os.environ)
    if before_send is not None:
        os.environ.setdefault("BRAIN_EVENTS_INIT_CHILDREN", "0")  # they would send what the hook has not seen
    if transport is not None:
        url = url or os.environ.get("BRAIN_EVENTS_URL") or "http://transport.invalid"
        if spool_dir == DEFAULT_SPOOL_DIR and not durable:
            spool_dir = None  # the batches in the default outbox are for a collector, not for this transport
    config = load(
        os.environ,
        url=url,
        api_key=api_key,
        source=source,
        max_event_bytes=max_event_bytes,
        max_buffer_bytes=max_buffer_bytes,
        allowed_keys=allowed_keys if isinstance(allowed_keys, str) else frozenset(allowed_keys),
        add_where=add_where,
        limits={} if limits is None else limits,
        before_send=before_send,
        interval_s=interval_s,
        request_timeout_s=request_timeout_s,
        ca_bundle=ca_bundle,
        spool_dir=spool_dir,
        spool_max_bytes=spool_max_bytes,
        journal_dir=journal_dir,
        journal_max_bytes=journal_max_bytes,
        durable=durable,
        fsync=fsync,
    )
    if config is None:
        logging.getLogger("brain_events").warning("events are not sent: pass a url to init(), or set BRAIN_EVENTS_URL")
        return
    client = Client(config, transport)
    if reason := client.unprotected():
        log(logging.INFO, "there is no journal, so kill -9 loses events that are not sent yet: %s", reason)
    previous, _current = _current, client
    if isinstance(previous, Early):
        atexit.register(_close_at_exit)
        atexit.register(_close_at_exit)  # if a Ctrl-C interrupts one before it begins, the other runs
        _close_at_end_of_child()
        _termination.install()
        previous.hand_over(client)
    else:
        previous.close(EXIT_BUDGET_S)
    _uncaught.switch(log_system_event, is_on=is_captured)


def log_system_event(
    event_type: str,
    severity: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    timestamp: datetime | None = None,
    exc_info: Any = None,
) -> None:
    """Log one event: encode it now, and send it in the background.

    The call takes microseconds, and never blocks or raises. Any arguments make a valid event: text that is too long is
    truncated, an unknown severity becomes `error`, a value that JSON cannot carry becomes text, and a value under a
    details key such as `password` is scrubbed.

    Args:
        event_type: The kind of event, such as `deployment` or `order_paid`; at most 50 characters.
        severity: `info`, `warning`, `error` or `critical`. The names of other libraries and the levels of `logging` are
            also accepted.
        message: One line for a person to read.
        details: Structured data about the event; fields set by `bind` are added.
        source: The service or host that logs the event, at most 100 characters; by default the `source` of `init`.
        timestamp: The time of the event; by default now. A time without a time zone is UTC.
        exc_info: An exception, or True for the one being handled; its type, message and traceback are added.
    """
    _current.log(event_type, severity, message, details, source=source, timestamp=timestamp, exc_info=exc_info)


def flush(timeout_s: float = 5.0) -> bool:
    """Send now, and wait until every event logged before this call is delivered or rejected.

    Events in the outbox count as not delivered.

    Args:
        timeout_s: Maximum time to wait, in seconds.

    Returns:
        True if the collector has taken or rejected all of them in time, and none was lost.
    """
    return _current.flush(timeout_s)


async def aflush(timeout_s: float = 5.0) -> bool:
    """Do what `flush` does without blocking the event loop."""
    return await _current.aflush(timeout_s)


def close(timeout_s: float = 2.0) -> bool:
    """Send the remaining events, or write them to the outbox, then stop. Runs automatically at exit.

    Args:
        timeout_s: Maximum time to take, in seconds.

    Returns:
        True if the collector has taken or rejected every event that was not dropped.
    """
    return _current.close(timeout_s)


def stats() -> Stats:
    """Return the account of this process's events: delivered, rejected, dropped, in the outbox, or in memory."""
    return _current.stats()


def replace_current(client: Client | Early) -> Client | Early:
    """Make `client` the process-wide one, and return the previous one, which stays open."""
    global _current
    previous, _current = _current, client
    return previous


def current_config() -> Config | None:
    """Return the settings of the process-wide client; None before `init`."""
    return _current.config if isinstance(_current, Client) else None


def _close_at_exit() -> None:
    """Deliver the remaining events, and from now on each event when it is logged."""
    global _current  # noqa: PLW0603 -- the one place of process-wide state
    client = _current
    if isinstance(client, Client) and not isinstance(client, Late):
        try:
            close_and_report(client, EXIT_BUDGET_S)
        finally:
            _current = Late(client)


def _reopen() -> None:
    """Go on as before `_close_at_exit`."""
    global _current  # noqa: PLW0603 -- the one place of process-wide state
    if isinstance(_current, Late):
        _current = _current.successor()


def _begin_early() -> None:
    """See that events without `init` are not lost silently.

    A child of `multiprocessing` that is spawned does not run what stands under `if __name__ == "__main__"`. So it
    initializes itself if the environment has a URL.
    """
    atexit.unregister(_report_forgotten_init)  # a forked child inherits that of its parent
    atexit.register(_report_forgotten_init)
    process = sys.modules.get("multiprocessing.process")
    if process and process.parent_process() is not None and inits_children(os.environ):
        init()


def _report_forgotten_init() -> None:
    if _is_init_forgotten and (logged := _current.stats().logged):
        write_line(f"brain-events: init() was not called; events that were not sent: {logged}")


def _reset_in_child() -> None:
    """Leave events that were logged before `init` and before the fork to the parent."""
    global _current  # noqa: PLW0603 -- the one place of process-wide state
    if isinstance(_current, Early):
        _current = Early(_begin_early)
    _close_at_end_of_child()


def _close_at_end_of_child() -> None:
    """Close the client at the end of a `multiprocessing` child, which ends by `os._exit` and skips atexit (until 3.13).

    The child runs its finalizers, but drops those that were registered before its own start-up. The "after fork"
    functions solve this for every start method: the child calls them once its imports are complete. A process of a
    Celery worker does not run finalizers either; it sends a signal instead.
    """
    if signals := sys.modules.get("celery.signals"):
        signals.worker_process_shutdown.connect(_close_with_celery, weak=False)
    if util := sys.modules.get("multiprocessing.util"):
        util.register_after_fork(_close_at_exit, lambda _: _finalize(util))
        if sys.modules["multiprocessing.process"].parent_process() is not None:
            _finalize(util)


def _close_with_celery(**_: Any) -> None:
    _close_at_exit()


def _finalize(util: Any) -> None:
    util.Finalize(None, _close_at_exit, exitpriority=10)


_current: Client | Early = Early(_begin_early)
_termination = Termination(_close_at_exit, _reopen)
os.register_at_fork(after_in_child=_reset_in_child)

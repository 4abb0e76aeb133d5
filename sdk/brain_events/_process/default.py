"""The process-wide client: what `init` makes and `log_system_event` uses. The only module state of the SDK."""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from brain_events._delivery.transport import Transport
from brain_events._process.early import Early
from brain_events._process.late import Late, close_and_tell
from brain_events._queue.stats import Stats
from brain_events.client import Client
from brain_events.config import (
    DEFAULT_INTERVAL_S,
    DEFAULT_MAX_BUFFER_BYTES,
    DEFAULT_MAX_EVENT_BYTES,
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_SPOOL_DIR,
    DEFAULT_SPOOL_MAX_BYTES,
    load,
)
from brain_events.wire import Event

EXIT_BUDGET_S = 2.0

_current: Client | Early = Early()


def init(
    url: str | None = None,
    api_key: str | None = None,
    source: str | None = None,
    *,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    max_buffer_bytes: int = DEFAULT_MAX_BUFFER_BYTES,
    allowed_keys: Iterable[str] = (),
    before_send: Callable[[Event], Event | None] | None = None,
    interval_s: float = DEFAULT_INTERVAL_S,
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S,
    ca_bundle: str | None = None,
    spool_dir: str | os.PathLike[str] | None = DEFAULT_SPOOL_DIR,
    spool_max_bytes: int = DEFAULT_SPOOL_MAX_BYTES,
    durable: bool | None = None,
    fsync: bool | None = None,
    transport: Transport | None = None,
) -> None:
    """Start sending the events of this process to the collector at `url`.

    Call it once, early; the last 256 events logged before are delivered too. A second call replaces
    the first, whose events are delivered before it returns (within 2 s). No thread starts before the
    first event, nor in a parent that only forks.

    Args:
        url: The collector's address; else `BRAIN_EVENTS_URL`. Without either nothing is sent; one warning is logged.
        api_key: The collector's API key; else `BRAIN_EVENTS_API_KEY`.
        source: The `source` of events that name none; else `BRAIN_EVENTS_SOURCE`.
        max_event_bytes: Longest encoded event; longer ones are truncated, with a marker.
        max_buffer_bytes: Most encoded bytes held in memory; past it events are dropped and counted. The last fifth
            is kept for `error` and `critical`.
        allowed_keys: Names whose values are no secrets, though they look like it; exactly as they are written.
        before_send: Sees every event, in the thread that logs it, and returns what to send, or None to drop it. If it
            raises, the event is dropped. What it logs itself is not sent.
        interval_s: Longest time an event waits for its batch to fill.
        request_timeout_s: Wall-clock limit for one request.
        ca_bundle: A file of certificates (PEM) to trust in place of the system's; else `BRAIN_EVENTS_CA_BUNDLE`.
        spool_dir: Where batches wait that cannot be delivered now, for this process or the next to send; made at
            first need; else `BRAIN_EVENTS_SPOOL_DIR`, else `~/.local/state/brain-events`. None (or `none` in the
            environment): nowhere, and an event that is not delivered when the process ends is lost.
        spool_max_bytes: Most bytes that this process keeps there.
        durable: Write each event to that directory before `log_system_event` returns, so that not even `kill -9` loses
            it; else `BRAIN_EVENTS_DURABLE`.
        fsync: Wait for the medium too, so that not even a power loss does; else `BRAIN_EVENTS_FSYNC`.
        transport: Takes the place of HTTP, such as `testing.MemoryTransport`.

    Raises:
        ConfigError: A setting cannot be used. Logging itself never raises.
    """
    global _current
    if transport is not None:
        url = url or os.environ.get("BRAIN_EVENTS_URL") or "http://transport.invalid"
        if spool_dir == DEFAULT_SPOOL_DIR and not durable:
            spool_dir = None  # batches that wait there are for the collector, not for this
    config = load(
        os.environ,
        url=url,
        api_key=api_key,
        source=source,
        max_event_bytes=max_event_bytes,
        max_buffer_bytes=max_buffer_bytes,
        allowed_keys=allowed_keys if isinstance(allowed_keys, str) else frozenset(allowed_keys),
        before_send=before_send,
        interval_s=interval_s,
        request_timeout_s=request_timeout_s,
        ca_bundle=ca_bundle,
        spool_dir=spool_dir,
        spool_max_bytes=spool_max_bytes,
        durable=durable,
        fsync=fsync,
    )
    if config is None:
        logging.getLogger("brain_events").warning("events are not sent: give init() a url, or set BRAIN_EVENTS_URL")
        return
    client = Client(config, transport)
    previous, _current = _current, client
    if isinstance(previous, Early):
        atexit.register(_close_at_exit)
        atexit.register(_close_at_exit)  # a Ctrl-C in its first instant ends one; else the other does nothing
        _close_at_end_of_child()
        previous.pass_on(client)
    else:
        previous.close(EXIT_BUDGET_S)


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
    """Log one event; it is encoded at once and sent in the background. Takes microseconds, never waits, never raises.

    Any arguments lead to a stored event: what is too long is cut, an unknown severity becomes `error`,
    a value that JSON lacks becomes text, a value under a key such as `password` is scrubbed.

    Args:
        event_type: What happened, such as `deployment` or `order_paid`; at most 50 characters.
        severity: `info`, `warning`, `error` or `critical`; other libraries' names and numbers are understood.
        message: One line for a person.
        details: Anything else, as JSON data; fields set by `bind` are added.
        source: Who says so, at most 100 characters; else the one given to `init`.
        timestamp: When it happened, else now; a naive time is UTC.
        exc_info: An exception, or True for the one being handled: adds its type, message and traceback.
    """
    _current.log(event_type, severity, message, details, source=source, timestamp=timestamp, exc_info=exc_info)


def flush(timeout_s: float = 5.0) -> bool:
    """Send now; return True only if everything logged before is answered for within `timeout_s`."""
    return _current.flush(timeout_s)


async def aflush(timeout_s: float = 5.0) -> bool:
    """Do what `flush` does, without holding up the event loop."""
    return await _current.aflush(timeout_s)


def close(timeout_s: float = 2.0) -> bool:
    """Send what is left, or write it to the outbox, within `timeout_s`, then stop; return whether all is delivered.

    It runs at exit by itself.
    """
    return _current.close(timeout_s)


def stats() -> Stats:
    """Return where the events of this process are: delivered, rejected, dropped, on disk, or in memory."""
    return _current.stats()


def _close_at_exit() -> None:
    """Deliver what is left, and from now on each event when it is logged."""
    global _current  # noqa: PLW0603 -- the one place of process-wide state
    client = _current
    if isinstance(client, Client) and not isinstance(client, Late):
        try:
            close_and_tell(client, EXIT_BUDGET_S)
        finally:
            _current = Late(client)


def _start_anew_in_child() -> None:
    """In a forked child, leave early events to the parent."""
    global _current  # noqa: PLW0603 -- the one place of process-wide state
    if isinstance(_current, Early):
        _current = Early()
    _close_at_end_of_child()


def _close_at_end_of_child() -> None:
    """See to it that a child of `multiprocessing` closes, which ends by `os._exit` and skips atexit (until 3.13).

    It runs finalizers, but forgets those that were registered before its own start-up. For that there are "after fork"
    functions, whatever the start method: they are called when the child has imported what it needs. A process of a
    Celery worker runs not even finalizers, and says so.
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


os.register_at_fork(after_in_child=_start_anew_in_child)

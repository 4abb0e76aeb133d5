"""The client: encode the arguments of one event as a line and put it into the journal. The caller's path ends here."""

import os
import time
import warnings
import weakref
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from brain_events._delivery.connector import PutLine, installed
from brain_events._delivery.transport import Transport
from brain_events._delivery.worker import FLUSH_POLL_S, Worker, hold_all, release_all, resume_all
from brain_events._queue.stats import Stats
from brain_events._record.before_send import Hook
from brain_events._record.bound_fields import with_bound
from brain_events._record.event import cut, encode, encode_event, make_event
from brain_events._record.limits import Limits, limits_of
from brain_events._record.redact import scrub
from brain_events._record.sanitize import is_secret
from brain_events._record.trace import MODULES, OPENTELEMETRY, with_span
from brain_events._record.type_limits import TypeLimits
from brain_events.config import Config
from brain_events.context import BOUND, SilencedError
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SOURCE_MAX_CHARS, Event

SHORT_LINE_BYTES = 1000
"""A longer line may need truncation, or hold an integer that readers refuse (the collector's limit: 1,000 digits)."""
MAX_SHAPES = 1024
MAX_SHAPE_KEYS = 64
MAX_SHAPE_KEY_CHARS = 64

_PLAIN = frozenset({str, int, float, bool, type(None)})
_BACKSLASH = 92
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()
_now = datetime.now


class Client:
    """Logs events to one collector, in the background.

    Use it as a context manager, or call `close`. A client can be shared between threads. It also works in a forked
    child, which starts with an empty buffer: events logged before the fork are delivered by the parent.

    Args:
        config: The settings.
        transport: Replaces HTTP, such as `brain_events.testing.MemoryTransport`.
    """

    _closed = True  # until `_open` has finished

    def __init__(self, config: Config, transport: Transport | None = None) -> None:
        self._config = config
        self._transport = transport
        self._shapes: set[tuple[str, ...]] = set()
        self._open()
        _clients.add(self)

    @property
    def config(self) -> Config:
        """The settings of this client."""
        return self._config

    def log(
        self,
        event_type: str,
        severity: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        source: str | None = None,
        timestamp: datetime | None = None,
        exc_info: Any = None,
    ) -> None:
        """Log one event, as `brain_events.log_system_event` does, without blocking or raising."""
        # A known shape (event type and details keys, checked before) with plain values is encoded directly: this takes
        # 2 us instead of 15.
        try:
            if self._type_limits is not None and not self._type_limits.admits(event_type, severity):
                self._buffer.dropped["limited"] += 1
                return
            bound = BOUND.get()
            if OPENTELEMETRY in MODULES:
                bound = with_span(bound)
            fields: Any = details if bound is None else {**bound, **details} if details else bound
            line = None
            if (
                not exc_info
                and source is None
                and type(message) is str
                and severity in SEVERITIES
                and (fields is None or type(fields) is dict)  # another mapping may iterate without end
                and (event_type, *(fields or ())) in self._shapes
                and (not fields or _PLAIN.issuperset(map(type, fields.values())))
                and (timestamp is None or timestamp.tzinfo is UTC)
            ):
                line = encode(
                    Event(event_type, severity, message, fields or None, self._source, timestamp or _now(UTC))
                )
                if len(line) > SHORT_LINE_BYTES or (_BACKSLASH in line and b"\\u0000" in line):
                    line = None
        except Exception:  # noqa: BLE001 -- `_log_any` accepts any arguments
            line = None
        try:
            if line is None:
                self._log_any(event_type, severity, message, details, source, timestamp, exc_info)
            else:
                self._put_line(line, severity)
        except SilencedError:
            self._count_before_send()
        except Exception:  # noqa: BLE001 -- such as RecursionError, which += cannot raise: it calls nothing
            self._buffer.dropped["internal_error"] += 1

    def adopt(self, events: Iterable[Event], lost: int = 0) -> None:
        """Log valid events that were made before `init`, and count those that were `lost` there."""
        self._buffer.dropped["before_init"] += lost
        for event in events:
            event.source = event.source or self._source
            self._put(event)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send now, and wait until every event logged before this call is delivered or rejected.

        Events in the outbox count as not delivered.

        Args:
            timeout_s: Maximum time to wait, in seconds.

        Returns:
            True if the collector has taken or rejected all of them in time, and none was lost.
        """
        deadline = time.monotonic() + timeout_s
        progress = self._worker.start_flush()
        while (done := progress()) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(FLUSH_POLL_S)
        return done

    async def aflush(self, timeout_s: float = 5.0) -> bool:
        """Do what `flush` does without blocking the event loop."""
        deadline = time.monotonic() + timeout_s
        progress = self._worker.start_flush()
        while (done := progress()) is None:
            if time.monotonic() >= deadline:
                return False
            await _sleep(FLUSH_POLL_S)
        return done

    def close(self, timeout_s: float = 2.0) -> bool:
        """Send the remaining events, or write them to the outbox, then stop. A second call has no effect.

        Events in the outbox are sent by the next process; `stats().spooled` counts them.

        Args:
            timeout_s: Maximum time to take, in seconds.

        Returns:
            True if the collector has taken or rejected every event that was not dropped.
        """
        self._closed = True
        return self._worker.close(timeout_s)

    def stats(self) -> Stats:
        """Return the account of all events that were logged through this client."""
        return self._worker.stats()

    def unprotected(self) -> str | None:
        """Return why there is no journal that outlives the process, in default mode; None if there is one."""
        return self._worker.unprotected

    def __enter__(self) -> Self:
        return self

    def __del__(self) -> None:
        if not self._closed:
            text = f"{self!r} was not closed: its events may be lost at exit"
            warnings.warn(text, ResourceWarning, stacklevel=1, source=self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        connector = installed()
        self._config, self._transport = connector.prepare(self._config, self._transport)
        self._source = cut(self._config.source, SOURCE_MAX_CHARS) or None
        self._limits = limits_of(self._config)
        before_send = self._config.before_send
        self._hook = Hook(before_send, self._limits) if before_send else None
        self._type_limits = TypeLimits(self._config.limits) if self._config.limits else None
        self._worker = Worker(self._config, self._transport or _http_transport(self._config), self._type_limits)
        self._buffer = self._worker.buffer
        put = self._worker.put
        if self._config.durable:  # `put` writes to the disk, which no secret must reach
            put = _scrub_first(put, self._limits)
        self._put_line = connector.observe(put, self._buffer, self._limits)
        self._closed = False

    def _log_any(
        self, event_type: Any, severity: Any, message: Any, details: Any, source: Any, timestamp: Any, exc_info: Any
    ) -> None:
        details = with_bound(details)
        source = self._source if source is None else source
        event = make_event(event_type, severity, message, details, source, timestamp, exc_info, self._limits)
        if self._hook is None:  # a hook must see every event, so none may take the fast path
            self._remember_shape(event_type, details)
        self._put(event)

    def _put(self, event: Event) -> None:
        passed = event if self._hook is None else self._hook(event)
        if passed is None:
            self._count_before_send()
        else:
            self._put_line(encode_event(passed, self._limits), passed.severity)

    def _count_before_send(self) -> None:
        dropped = self._buffer.dropped
        dropped["before_send"] = dropped.get("before_send", 0) + 1

    def _remember_shape(self, event_type: Any, fields: Any) -> None:
        """Remember the shape of an event for the fast path, unless a details key looks like a secret."""
        if not _is_plain_type(event_type) or (fields is not None and type(fields) is not dict):
            return
        keys = tuple(fields or ())
        if len(keys) <= MAX_SHAPE_KEYS and all(map(_is_plain_key, keys)):
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes.add((event_type, *keys))


async def _sleep(seconds: float) -> None:
    """Sleep in the event loop of the caller, trio's or asyncio's."""
    trio = MODULES.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        from asyncio import sleep  # noqa: PLC0415 -- an application without an event loop does not pay for the import

        await sleep(seconds)


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and len(key) <= MAX_SHAPE_KEY_CHARS and not is_secret(key)


def _is_plain_type(event_type: Any) -> bool:
    return type(event_type) is str and event_type != "" and event_type == cut(event_type, EVENT_TYPE_MAX_CHARS)


def _scrub_first(put: PutLine, limits: Limits) -> PutLine:
    return lambda line, severity: put(scrub(line, limits), severity)


def _http_transport(config: Config) -> Transport:
    from brain_events._delivery.http import HTTPTransport  # noqa: PLC0415 -- urllib3 takes 30 ms to import

    return HTTPTransport(config)


def _reopen_in_child() -> None:
    """Open every client again in a forked child; the events in memory and the files belong to the parent."""
    release_all()
    for client in list(_clients):
        if not client._closed:  # noqa: SLF001 -- a class of this module
            client._open()  # noqa: SLF001


os.register_at_fork(before=hold_all, after_in_parent=resume_all, after_in_child=_reopen_in_child)

"""A client: the arguments of one event come in, its encoded line goes into the buffer. The caller's path ends here."""

import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from brain_events._delivery.transport import Transport
from brain_events._delivery.worker import FLUSH_POLL_S, Worker, release_all
from brain_events._queue.stats import Stats
from brain_events._record.before_send import Hook
from brain_events._record.bound_fields import with_bound
from brain_events._record.event import cut, encode, encode_event, make_event
from brain_events._record.redact import scrub
from brain_events._record.sanitize import is_secret
from brain_events._record.trace import MODULES, OPENTELEMETRY, with_span
from brain_events.config import Config
from brain_events.context import BOUND, SilencedError
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SOURCE_MAX_CHARS, Event

SHORT_LINE_BYTES = 1000
"""A longer line may hold an integer that readers refuse (the collector's limit is 1,000 digits), or need truncation."""
MAX_SHAPES = 1024
MAX_SHAPE_KEYS = 64
MAX_SHAPE_KEY_CHARS = 64

PutLine = Callable[[bytes, str], None]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_BACKSLASH = 92
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()
_now = datetime.now


class Client:
    """Logs events to one collector, in the background.

    Use it as a context manager, or `close` it. It is safe to share between threads, and works on in a forked
    child, which starts with an empty buffer: the events logged before the fork belong to the parent.
    """

    _closed = True  # until it is open

    def __init__(self, config: Config, transport: Transport | None = None) -> None:
        self._config = config
        self._transport = transport
        self._shapes: set[tuple[str, ...]] = set()
        self._open()
        _clients.add(self)

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
        """Log one event; see `brain_events.log_system_event`. Never raises, never waits."""
        # A known shape (event type and keys, judged before) with plain values is encoded at once: 2 us in place of 15.
        try:
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
                and (fields is None or type(fields) is dict)  # nothing else is iterated here: it might not end
                and (event_type, *(fields or ())) in self._shapes
                and (not fields or _PLAIN.issuperset(map(type, fields.values())))
                and (timestamp is None or timestamp.tzinfo is UTC)
            ):
                line = encode(
                    Event(event_type, severity, message, fields or None, self._source, timestamp or _now(UTC))
                )
                if len(line) > SHORT_LINE_BYTES or (_BACKSLASH in line and b"\\u0000" in line):
                    line = None
        except Exception:  # noqa: BLE001 -- the forgiving way knows what to do with it
            line = None
        try:
            if line is None:
                self._log_forgivingly(event_type, severity, message, details, source, timestamp, exc_info)
            else:
                self._put_line(line, severity)
        except SilencedError:
            self._count_before_send()
        except Exception:  # noqa: BLE001 -- such as RecursionError; the += needs no call
            self._buffer.dropped["internal_error"] += 1

    def adopt(self, events: Iterable[Event], lost: int = 0) -> None:
        """Log valid events that were made elsewhere, and count those that were `lost` there, before `init`."""
        self._buffer.dropped["before_init"] += lost
        for event in events:
            event.source = event.source or self._source
            self._put(event)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send now; return True only if everything logged before is answered for within `timeout_s`.

        Events that are on disk, but not at the collector, are not.
        """
        deadline = time.monotonic() + timeout_s
        progress = self._worker.flushing()
        while (done := progress()) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(FLUSH_POLL_S)
        return done

    async def aflush(self, timeout_s: float = 5.0) -> bool:
        """Do what `flush` does, without holding up the event loop."""
        from asyncio import sleep  # noqa: PLC0415 -- who has no loop need not import it

        deadline = time.monotonic() + timeout_s
        progress = self._worker.flushing()
        while (done := progress()) is None:
            if time.monotonic() >= deadline:
                return False
            await sleep(FLUSH_POLL_S)
        return done

    def close(self, timeout_s: float = 2.0) -> bool:
        """Send what is left, or write it to the outbox, within `timeout_s`; then stop for good. Safe twice.

        Return whether all is delivered; what is in the outbox waits for the next process, `stats` tells the difference.
        """
        self._closed = True
        return self._worker.close(timeout_s)

    def stats(self) -> Stats:
        """Return where all events logged through this client are."""
        return self._worker.stats()

    def __enter__(self) -> Self:
        return self

    def __del__(self) -> None:
        if not self._closed:
            text = f"{self!r} was not closed: events that it holds may be lost at exit"
            warnings.warn(text, ResourceWarning, stacklevel=1, source=self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._source = cut(self._config.source, SOURCE_MAX_CHARS) or None
        self._max_event_bytes = self._config.max_event_bytes
        self._allowed_keys = allowed = self._config.allowed_keys
        hook = self._config.before_send
        self._hook = Hook(hook, self._max_event_bytes, allowed) if hook else None
        self._worker = Worker(self._config, self._transport or _http_transport(self._config))
        self._buffer = self._worker.buffer
        put = self._worker.put  # in durable mode it writes to the disk, which no secret must reach
        self._put_line = _searching(put, self._max_event_bytes, allowed) if self._config.durable else put
        self._closed = False

    def _log_forgivingly(
        self, event_type: Any, severity: Any, message: Any, details: Any, source: Any, timestamp: Any, exc_info: Any
    ) -> None:
        details = with_bound(details)
        source = self._source if source is None else source
        limits = self._max_event_bytes, self._allowed_keys
        event = make_event(event_type, severity, message, details, source, timestamp, exc_info, *limits)
        if self._hook is None:  # which has to see every event: none may take the short way
            self._remember(event_type, details)
        self._put(event)

    def _put(self, event: Event) -> None:
        passed = event if self._hook is None else self._hook(event)
        if passed is None:
            self._count_before_send()
        else:
            line = encode_event(passed, self._max_event_bytes, self._allowed_keys)
            self._put_line(line, passed.severity)

    def _count_before_send(self) -> None:
        dropped = self._buffer.dropped
        dropped["before_send"] = dropped.get("before_send", 0) + 1

    def _remember(self, event_type: Any, fields: Any) -> None:
        """Learn the shape of an event, unless a key looks like a secret: the next one like it is encoded at once."""
        if not _is_plain_type(event_type) or (fields is not None and type(fields) is not dict):
            return
        keys = tuple(fields or ())
        if len(keys) <= MAX_SHAPE_KEYS and all(map(_is_plain_key, keys)):
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes.add((event_type, *keys))


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and len(key) <= MAX_SHAPE_KEY_CHARS and not is_secret(key)


def _is_plain_type(event_type: Any) -> bool:
    return type(event_type) is str and event_type != "" and event_type == cut(event_type, EVENT_TYPE_MAX_CHARS)


def _searching(put: PutLine, max_bytes: int, allowed_keys: frozenset[str]) -> PutLine:
    return lambda line, severity: put(scrub(line, max_bytes, allowed_keys), severity)


def _http_transport(config: Config) -> Transport:
    from brain_events._delivery.http import HTTPTransport  # noqa: PLC0415 -- urllib3 takes 30 ms, which `import` must not cost

    return HTTPTransport(config)


def _start_anew_in_child() -> None:
    """In a forked child: leave what is in memory, and the files, to the parent."""
    release_all()
    for client in list(_clients):
        if not client._closed:  # noqa: SLF001 -- of this module
            client._open()  # noqa: SLF001


os.register_at_fork(after_in_child=_start_anew_in_child)

"""Support for tests: capture events instead of sending them, or deliver them to a collector in memory.

`capture_events` is for tests of an application; with pytest, use the fixture `brain_events` (`pytest_plugin`).
`MemoryTransport` is for tests of delivery. `faulty` has a collector that fails in every usual way.
May import everything in the SDK. The SDK must not import it, so that it costs an application nothing.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import msgspec
from msgspec.structs import replace

from brain_events._delivery import connector
from brain_events._delivery.connector import Connector, PutLine
from brain_events._delivery.transport import Response, Transport
from brain_events._process.default import current_config, replace_current
from brain_events._queue.batch import Batch, unseal
from brain_events._queue.buffer import Buffer
from brain_events._record.limits import Limits
from brain_events._record.redact import scrub
from brain_events.client import Client
from brain_events.config import DEFAULT_SPOOL_DIR, Config
from brain_events.wire import BatchAnswer, Event

NOWHERE = Config(url="http://captured.invalid", spool_dir=None)

FAULTY_URLS: set[str] = set()
"""The URL of each `FaultyCollector` of this process. Clients with such a URL always send."""

_captures: list[list[Event]] = []


class MemoryTransport:
    """A collector in memory, which stores each batch once.

    Args:
        answers: The first responses, in order, instead of storing: each a `Response`, or an exception to raise. More
            can be appended to the attribute `answers` later.
    """

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = deque(answers)
        self.attempts: list[Batch] = []
        self._stored: dict[UUID, Batch] = {}
        self._lock = threading.Lock()

    def send(self, batch: Batch, timeout_s: float) -> Response:  # noqa: ARG002 -- memory responds at once
        """Store `batch` and return a response, as a client's worker expects of a transport."""
        with self._lock:
            self.attempts.append(batch)
            if self.answers:
                answer = self.answers.popleft()
                if isinstance(answer, Exception):
                    raise answer
                return answer
            duplicate = batch.key in self._stored
            self._stored[batch.key] = batch
        return accepted(batch.count, duplicate=duplicate)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    @property
    def events(self) -> list[Event]:
        """Every stored event, in order."""
        with self._lock:
            lines = [line for batch in self._stored.values() for line in unseal(batch)]
        return [msgspec.json.decode(line, type=Event) for line in lines]


class _NullTransport:
    """Accepts every batch and stores none."""

    def send(self, batch: Batch, timeout_s: float) -> Response:  # noqa: ARG002 -- as above
        return accepted(batch.count)

    def close(self) -> None: ...


def accepted(count: int, *, duplicate: bool = False) -> Response:
    """Return the response of a collector that has stored a batch.

    Args:
        count: The number of events in the batch.
        duplicate: Whether the batch was stored before.
    """
    receipt = BatchAnswer(count, count, 0, duplicate, [], errors_truncated=False)
    return Response(200, "application/json", msgspec.json.encode(receipt))


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """Yield a list of every event that any thread of this process logs inside the block, in order.

    For example::

        with capture_events() as events:
            order.pay()
        assert [event.event_type for event in events] == ["order_paid"]

    An event is in the list when `log_system_event` returns. It is what a collector would receive: scrubbed, truncated,
    with bound fields, after `before_send`. As in `sending_off`, nothing is sent or written to disk.
    """
    events: list[Event] = []
    with sending_off():
        _captures.append(events)
        try:
            yield events
        finally:
            _captures[:] = [others for others in _captures if others is not events]


@contextmanager
def sending_off() -> Iterator[None]:
    """Stop sending inside the block, and discard the events.

    This applies to the process-wide client and to every client that is created inside the block. `init` may be called
    inside: its settings apply until the end of the block, except that nothing is sent and no outbox is used. Then the
    previous process-wide client is restored.

    A client with a `transport`, or with the URL of a `FaultyCollector` in this process, still uses it. A `Client` that
    the application created before the block still sends.
    """
    _turn_off()
    try:
        settings = current_config() or NOWHERE
        previous = replace_current(Client(_without_outbox(replace(settings, url=NOWHERE.url))))
        try:
            yield
        finally:
            replace_current(previous).close()
    finally:
        _turn_on()


class _Capturing(Connector):
    """Shows the events of new clients to `_captures`; they send nothing, unless a test has given them a destination."""

    def prepare(self, config: Config, transport: Transport | None) -> tuple[Config, Transport | None]:
        if transport is None and config.url.rstrip("/") not in FAULTY_URLS:
            return _without_outbox(config), _NullTransport()
        if config.spool_dir == DEFAULT_SPOOL_DIR and not config.durable:
            return _without_outbox(config), transport
        return config, transport

    def observe(self, put_line: PutLine, buffer: Buffer, limits: Limits) -> PutLine:
        def capture_and_put(line: bytes, severity: str) -> None:
            if _captures and not buffer.closed:
                captured = scrub(line, limits)
                for events in _captures.copy():
                    events.append(msgspec.json.decode(captured, type=Event))
            put_line(line, severity)

        return capture_and_put


_replaced: list[Connector] = []
"""The connector that each open block of `sending_off` has replaced."""


def _turn_off() -> None:
    _replaced.append(connector.install(_Capturing()))


def _turn_on() -> None:
    connector.install(_replaced.pop())


def _without_outbox(config: Config) -> Config:
    """Return `config` without an outbox, whose batches belong to applications that send."""
    return replace(config, spool_dir=None, durable=False, fsync=False)

"""For tests: events are captured in place of being sent, or go to a collector that is a list in memory.

`capture_events` is for tests of an application; with pytest, the fixture `brain_events` does it (`pytest_plugin`).
`MemoryTransport` is for tests of delivery itself. A collector that fails in every usual way is in `faulty`.
May import everything in the SDK. Must not be imported by it: an application that does not test pays nothing.
"""

# What is turned off is private: `Client._open`, where every client gets its transport, and what `init` has set.
# ruff: noqa: SLF001

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import msgspec
from msgspec.structs import replace

from brain_events._delivery.transport import Answer
from brain_events._process import default
from brain_events._queue.batch import Batch, unseal
from brain_events._queue.buffer import Buffer
from brain_events._record.redact import scrub
from brain_events.client import Client
from brain_events.config import DEFAULT_SPOOL_DIR, Config
from brain_events.wire import BatchAnswer, Event

NOWHERE = Config(url="http://captured.invalid", spool_dir=None)

FAULTY_URLS: set[str] = set()
"""Where a `FaultyCollector` of this process is: a client that is sent there sends, sending off or not."""

PutLine = Callable[[bytes, str], None]

_captures: list[list[Event]] = []
_off = 0  # how many blocks are open in which nothing is sent
_open_client = Client._open


class MemoryTransport:
    """A collector of one process: stores what it is sent, each key once, unless told to answer otherwise.

    `answers` holds what to say next, instead of storing: an `Answer`, or an exception to raise.
    """

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = deque(answers)
        self.attempts: list[Batch] = []
        self._stored: dict[UUID, Batch] = {}
        self._lock = threading.Lock()

    def send(self, batch: Batch, timeout_s: float) -> Answer:  # noqa: ARG002 -- memory answers at once
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

    def close(self) -> None: ...

    @property
    def events(self) -> list[Event]:
        """Return every stored event, in order."""
        with self._lock:
            lines = [line for batch in self._stored.values() for line in unseal(batch)]
        return [msgspec.json.decode(line, type=Event) for line in lines]


class _Nowhere:
    """Takes every batch and keeps none."""

    def send(self, batch: Batch, timeout_s: float) -> Answer:  # noqa: ARG002 -- as above
        return accepted(batch.count)

    def close(self) -> None: ...


def accepted(count: int, *, duplicate: bool = False) -> Answer:
    """Return the answer of a collector that has stored all of `count` events."""
    receipt = BatchAnswer(count, count, 0, duplicate, [], errors_truncated=False)
    return Answer(200, "application/json", msgspec.json.encode(receipt))


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """Yield a list that gets every event logged inside the block, by any thread of this process, in order.

    For example::

        with capture_events() as events:
            order.pay()
        assert [event.event_type for event in events] == ["order_paid"]

    An event is there when `log_system_event` returns, and is what a collector would get: sanitised, scrubbed, bounded,
    past `before_send`, with bound fields. Nothing is sent or written to disk, as in `sending_off`.
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
    """Let no client send that is made inside the block, nor the one that `init` made before it; events are let go.

    `init` may be called inside: its settings hold until the end of the block, only that nothing is sent and there is
    no outbox; then the client from before is back. A client that is given a `transport`, or the url of a
    `FaultyCollector` that runs in this process, uses it all the same.
    A `Client` of the application's own that was made before the block goes on sending.
    """
    _turn_off()
    try:
        previous = default._current
        settings = previous._config if isinstance(previous, Client) else NOWHERE
        default._current = Client(_harmless(replace(settings, url=NOWHERE.url)))
        try:
            yield
        finally:
            used, default._current = default._current, previous
            used.close()
    finally:
        _turn_on()


def _turn_off() -> None:
    global _off  # noqa: PLW0603 -- it stands for an attribute of a class, which is as global
    _off += 1
    Client._open = _open_off  # type: ignore[method-assign, assignment]


def _turn_on() -> None:
    global _off  # noqa: PLW0603 -- as above
    _off -= 1
    if not _off:
        Client._open = _open_client  # type: ignore[method-assign]


def _open_off(client: Client) -> None:
    """Open a client that shows its events to `_captures`, and sends nothing unless it was told where by a test."""
    if client._transport is None and client._config.url.rstrip("/") not in FAULTY_URLS:
        client._transport = _Nowhere()
        client._config = _harmless(client._config)
    elif client._config.spool_dir == DEFAULT_SPOOL_DIR and not client._config.durable:
        client._config = _harmless(client._config)
    _open_client(client)
    client._put_line = _showing(client._put_line, client._buffer, client._config)


def _harmless(config: Config) -> Config:
    """Leave the outbox alone: what waits there belongs to applications that send."""
    return replace(config, spool_dir=None, durable=False, fsync=False)


def _showing(put: PutLine, buffer: Buffer, config: Config) -> PutLine:
    max_bytes, allowed_keys = config.max_event_bytes, config.allowed_keys

    def show_and_put(line: bytes, severity: str) -> None:
        if _captures and not buffer.closed:
            shown = scrub(line, max_bytes, allowed_keys)
            for events in _captures.copy():
                events.append(msgspec.json.decode(shown, type=Event))
        put(line, severity)

    return show_and_put

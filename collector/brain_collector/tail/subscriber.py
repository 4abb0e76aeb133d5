"""Subscribers of the tail: each has a bounded queue of frames, which are taken in order."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from brain_collector.query.filter import Filter
from brain_collector.schema import Event
from brain_collector.tail.commit_order import Arrival, Piece, Span

PART_BYTES: Final = 65_536
"""Maximum size of the events in one part, in bytes; a larger event is a part by itself."""

_encode: Final = msgspec.json.encode


class Part(NamedTuple):
    """A JSON array of events, and the position of the last one."""

    position: Arrival
    events: bytes


class Frame(NamedTuple):
    """One item of a queue: events in parts, or a gap; `position` is the position up to which it is complete.

    Parts are small because a connection copies what it sends. Subscribers with the same filter share the bytes.
    """

    position: Arrival
    parts: tuple[Part, ...] = ()
    gap: Span | None = None

    @property
    def n_bytes(self) -> int:
        """The size of the events in bytes."""
        return sum(len(part.events) for part in self.parts)


class Subscriber:
    """A subscriber and its queue. `position` is the position from which on it gets events, once that is known."""

    def __init__(self, filter: Filter, max_bytes: int) -> None:
        self.filter = filter
        self.position: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        self.seen = Arrival(0, 0)
        """The position up to which all matching events were put into the queue."""
        self.ended = False
        """No further frames will be put into the queue."""
        self._taken: Arrival | None = None
        self._max_bytes = max_bytes
        self._frames: deque[tuple[Frame, Span]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    @property
    def reached(self) -> Arrival:
        """The position up to which the subscriber has taken everything."""
        return (self._taken or self.position.result()) if self._frames else self.seen

    def put(self, frame: Frame, span: Span) -> None:
        """Add a frame. If the queue becomes too large, one gap replaces it; `span` is the frame's share of a gap."""
        self._frames.append((frame, span))
        self._bytes += frame.n_bytes
        if len(self._frames) > 1 and (frame.gap is not None or self._bytes > self._max_bytes):
            gap = sum((span for _, span in self._frames), start=Span(0, None, None))
            self._frames.clear()
            self._frames.append((Frame(frame.position, gap=gap), gap))
            self._bytes = 0
        self._ready.set()

    def end(self) -> None:
        """Put no further frames into the queue."""
        self.ended = True
        self._ready.set()

    async def next(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None if there is none within `timeout_s`."""
        if not self._frames and not self.ended:
            self._ready.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ready.wait()
        if not self._frames:
            return None
        frame, _ = self._frames.popleft()
        self._bytes -= frame.n_bytes
        self._taken = frame.position
        return frame


def frame_of(events: list[Event], arrived: list[Piece]) -> Frame:
    """Return the events of these pieces as a frame."""
    xids = {id: piece.xid for piece in arrived for id in range(piece.first_id, piece.last_id + 1)}
    end = arrived[-1].end
    parts: list[Part] = []
    encoded: list[bytes] = []
    n_bytes, position = 0, end
    for event in events:
        line = _encode(event)
        if encoded and n_bytes + len(line) > PART_BYTES:
            parts.append(Part(position, _array(encoded)))
            encoded, n_bytes = [], 0
        encoded.append(line)
        n_bytes += len(line)
        position = Arrival(xids[event.id], event.id)
    if encoded:
        parts.append(Part(end, _array(encoded)))
    return Frame(end, tuple(parts))


def _array(encoded: list[bytes]) -> bytes:
    return b"[" + b",".join(encoded) + b"]"

"""Subscribers of the tail: each has a bounded queue of frames, which are taken in order."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from brain_collector.query.filter import Filter
from brain_collector.shares import OPEN_CALLER
from brain_collector.tail.commit_order import Span
from brain_collector.tail.portions import Portion
from brain_collector.tail.position import Position
from brain_collector.tail.resumption import Resumption

PART_BYTES: Final = 65_536
"""Maximum size of the events in one part, in bytes; a larger event is a part by itself."""

_encode: Final = msgspec.json.encode


class Part(NamedTuple):
    """A JSON array of events, and the position of the last one."""

    position: Position
    events: bytes


class Frame(NamedTuple):
    """One item of a queue: events in parts, or a gap; `position` is the position up to which it is complete.

    Parts are small because a connection copies what it sends. Subscribers with the same filter share the bytes.
    """

    position: Position
    parts: tuple[Part, ...] = ()
    gap: Span | None = None

    @property
    def n_bytes(self) -> int:
        """The size of the events in bytes."""
        return sum(len(part.events) for part in self.parts)

    def as_gap(self, span: Span) -> "Frame":
        """Return the gap over the events of this frame."""
        return Frame(self.position, gap=span)


class Subscriber:
    """A subscriber and its queue.

    `after` is the position at which it resumes, if any. `position` is the position from which on it gets events, and
    `resumption` the one after which it has yet to read the events before that; both are set once they are known.
    """

    def __init__(
        self, filter: Filter, max_bytes: int, after: Position | None = None, caller: str = OPEN_CALLER
    ) -> None:
        self.filter = filter
        self.after = after
        self.caller = caller
        self.position: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self.resumption: Resumption | None = None
        self.seen = Position(0, 0, 0)
        """The position up to which all matching events were put into the queue."""
        self.ended = False
        """No further frames will be put into the queue."""
        self._taken: Position | None = None
        self._max_bytes = max_bytes
        self._frames: deque[tuple[Frame, Span]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    @property
    def reached(self) -> Position:
        """The position up to which the subscriber has taken everything."""
        return (self._taken or self.position.result()) if self._frames else self.seen

    def put(self, frame: Frame, span: Span) -> None:
        """Add a frame. If the queue becomes too large, one gap replaces it; `span` is the frame's share of a gap.

        So a frame that is too large by itself becomes a gap too.
        """
        self._frames.append((frame, span))
        self._bytes += frame.n_bytes
        if self._bytes > self._max_bytes or (frame.gap is not None and len(self._frames) > 1):
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


def frame_of(portion: Portion) -> Frame:
    """Return the events of a portion as a frame."""
    events, pieces = portion
    xids = {id: piece.xid for piece in pieces for id in range(piece.first_id, piece.last_id + 1)}
    end = pieces[-1].end
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
        position = end._replace(xid=xids[event.id], id=event.id)
    if encoded:
        parts.append(Part(end, _array(encoded)))
    return Frame(end, tuple(parts))


def _array(encoded: list[bytes]) -> bytes:
    return b"[" + b",".join(encoded) + b"]"

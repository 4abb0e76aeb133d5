"""Who follows the tail, and what waits for it: frames of events come in, bounded, and are taken in order."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from brain_collector.query.filter import Filter
from brain_collector.schema import Event
from brain_collector.tail.commit_order import Arrival, Piece, Span

PART_BYTES: Final = 65_536
"""Most events, in bytes, in one part; a larger event is one by itself."""

_encode: Final = msgspec.json.encode


class Part(NamedTuple):
    """A JSON array of events, and the place of the last of them."""

    place: Arrival
    events: bytes


class Frame(NamedTuple):
    """What a listener gets at once: events in parts, or a gap; and the place that it has then seen all of.

    Parts are small, as a connection copies what it sends; what waits is the same bytes for all with the same filter.
    """

    place: Arrival
    parts: tuple[Part, ...] = ()
    gap: Span | None = None

    @property
    def n_bytes(self) -> int:
        """How many bytes of events it is."""
        return sum(len(part.events) for part in self.parts)


class Subscriber:
    """One who follows the tail, and what it has not taken yet. `place` is where that begins, once it is known."""

    def __init__(self, wanted: Filter, max_bytes: int) -> None:
        self.wanted = wanted
        self.place: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        self.seen = Arrival(0, 0)
        """Up to here there was nothing else for it."""
        self.ended = False
        """There comes no more than what waits."""
        self._taken: Arrival | None = None
        self._max_bytes = max_bytes
        self._frames: deque[tuple[Frame, Span]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    @property
    def reached(self) -> Arrival:
        """Up to here it has taken everything."""
        return (self._taken or self.place.result()) if self._frames else self.seen

    def put(self, frame: Frame, instead: Span) -> None:
        """Add a frame; if that is too much, a gap takes the place of all that waits. `instead` is this frame's own."""
        self._frames.append((frame, instead))
        self._bytes += frame.n_bytes
        if len(self._frames) > 1 and (frame.gap is not None or self._bytes > self._max_bytes):
            gap = sum((each for _, each in self._frames), start=Span(0, None, None))
            self._frames.clear()
            self._frames.append((Frame(frame.place, gap=gap), gap))
            self._bytes = 0
        self._ready.set()

    def end(self) -> None:
        """Give it no more than what waits."""
        self.ended = True
        self._ready.set()

    async def next(self, timeout_s: float) -> Frame | None:
        """Return what is next, None if there is nothing for that long."""
        if not self._frames and not self.ended:
            self._ready.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ready.wait()
        if not self._frames:
            return None
        frame, _ = self._frames.popleft()
        self._bytes -= frame.n_bytes
        self._taken = frame.place
        return frame


def frame_of(events: list[Event], arrived: list[Piece]) -> Frame:
    """Return the events of these pieces as a frame."""
    xids = {id: piece.xid for piece in arrived for id in range(piece.first_id, piece.last_id + 1)}
    end = arrived[-1].end
    parts: list[Part] = []
    encoded: list[bytes] = []
    n_bytes, place = 0, end
    for event in events:
        line = _encode(event)
        if encoded and n_bytes + len(line) > PART_BYTES:
            parts.append(Part(place, _array(encoded)))
            encoded, n_bytes = [], 0
        encoded.append(line)
        n_bytes += len(line)
        place = Arrival(xids[event.id], event.id)
    if encoded:
        parts.append(Part(end, _array(encoded)))
    return Frame(end, tuple(parts))


def _array(encoded: list[bytes]) -> bytes:
    return b"[" + b",".join(encoded) + b"]"

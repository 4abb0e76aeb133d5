"""The live tail: one reader a collector follows the arrivals, and hands them to whoever listens.

Listeners with the same filter share its statement and its encoded events. What a listener does not take in time is not
kept for it: it is told of the gap. So neither a slow listener nor many of them cost the collector more than so much.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from brain_collector.errors import Problem, Unavailable
from brain_collector.query.filter import Filter
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_collector.tail import commit_order
from brain_collector.tail.commit_order import Arrival, Piece, Span
from brain_collector.tail.subscriber import Frame, Subscriber, frame_of

RETRY_S: Final = 1.0
STEP_IDS: Final = 2_000
"""Most arrivals that are read at once."""
STEP_BYTES: Final = 8 * 2**20
"""About the most bytes of events that are made of them, for all filters together."""
_FIRST_IDS: Final = 100

logger: Final = logging.getLogger(__name__)


class Tail:
    """Who listens, and the reader for all of them. `run()` is its one task."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._new: list[Subscriber] = []
        self._listeners: dict[Filter, set[Subscriber]] = {}
        self._step_ids = _FIRST_IDS
        self._called = asyncio.Event()
        self._closing = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._new) + sum(map(len, self._listeners.values()))

    def refuse_if_full(self) -> None:
        """Refuse one more listener than may be.

        Raises:
            Unavailable: as said.
        """
        if self.listeners >= self._settings.max_streams:
            after_s = self._settings.retry_after_s
            raise Unavailable(
                f"{self.listeners} streams are open, as many as may be (BRAIN_COLLECTOR_MAX_STREAMS); "
                f"try again in {after_s} s",
                retry_after_s=after_s,
            )

    @contextmanager
    def listening(self, wanted: Filter) -> Iterator[Subscriber]:
        """Yield a listener, which gets everything that arrives after its `place`."""
        listener = Subscriber(wanted, self._settings.max_stream_bytes)
        self._new.append(listener)
        self._called.set()
        try:
            yield listener
        finally:
            if listener in self._new:
                self._new.remove(listener)
            group = self._listeners.get(wanted, set())
            group.discard(listener)
            if not group:
                self._listeners.pop(wanted, None)

    async def missed(self, wanted: Filter, after: Arrival, until: Arrival) -> AsyncIterator[Frame]:
        """Yield what arrived between two places."""
        while (frame := await self._missed(wanted, after, until)) is not None:
            after = frame.place
            yield frame

    async def _missed(self, wanted: Filter, after: Arrival, until: Arrival) -> Frame | None:
        """Return the first of what arrived between two places, None if that is nothing; a gap if it is very much."""
        span = await commit_order.span(self._store, after, until)
        if not span.arrived:
            return None
        if span.arrived > self._settings.max_stream_lag:
            return Frame(until, gap=span)
        arrived = first(await commit_order.pieces(self._store, after, until), self._step_ids)
        try:
            return frame_of(await commit_order.events(self._store, wanted, arrived), arrived)
        except Problem:
            self._step_ids = max(1, self._step_ids // 4)  # it may have been too much: who comes again gets further
            raise

    async def rest(self, wanted: Filter, after: Arrival, within_s: float) -> AsyncIterator[Frame]:
        """Yield what was committed before now, as far as that is settled and read in time: the end of a stream."""
        end_at = asyncio.get_running_loop().time() + within_s
        until: Arrival | None = None
        while True:
            try:
                async with asyncio.timeout_at(end_at):
                    until = until or await commit_order.tip(self._store)
                    frame = await self._settled(wanted, after, until)
            except (Problem, TimeoutError):
                return
            if frame is None:
                return
            after = frame.place
            yield frame

    async def _settled(self, wanted: Filter, after: Arrival, until: Arrival) -> Frame | None:
        """Return what comes next, waiting for it; None once there is nothing more up to `until`."""
        while True:
            head = await commit_order.head(self._store)
            frame = await self._missed(wanted, after, head)
            if frame is not None or head >= until:
                return frame
            await asyncio.sleep(self._settings.stream_poll_s)

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._called.set()

    async def run(self) -> None:
        """Read for those who listen, as long as there are any, until `close`."""
        place: Arrival | None = None
        while not self._closing:
            if not self.listeners:
                place = None
                self._called.clear()
                await self._called.wait()
                continue
            try:
                place = await self._step(place or await commit_order.head(self._store))
            except Problem as error:  # the monitor tells of a database that is away
                logger.info("the tail waits: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _step(self, place: Arrival) -> Arrival:
        """Hand out what arrived after a place; return the place after it."""
        for listener in self._new:
            self._listeners.setdefault(listener.wanted, set()).add(listener)
            listener.seen = place
            listener.place.set_result(place)
        self._new.clear()
        arrived = await commit_order.pieces(self._store, place)
        if not arrived:
            self._called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stream_poll_s):
                    await self._called.wait()
            return place
        if sum(piece.n for piece in arrived) > self._settings.max_stream_lag:
            return await self._skip(place)
        arrived = first(arrived, self._step_ids)
        found = {}  # all of it before any is handed out: after an error, the same is read again
        for wanted in list(self._listeners):
            try:
                found[wanted] = frame_of(await commit_order.events(self._store, wanted, arrived), arrived)
            except Problem as error:
                await self._store.ping()  # it is the filter's fault, if this is answered
                self._end(wanted, error)
        self._step_ids = paced(self._step_ids, arrived, sum(frame.n_bytes for frame in found.values()))
        self._hand_out(found, commit_order.span_of(arrived))
        return arrived[-1].end

    def _hand_out(self, found: dict[Filter, Frame], span: Span) -> None:
        for wanted, frame in found.items():
            for listener in self._listeners.get(wanted, ()):
                listener.seen = frame.place
                if frame.parts:
                    listener.put(frame, span)

    def _end(self, wanted: Filter, error: Problem) -> None:
        """End those who listen for what cannot be read; nobody else waits for it."""
        logger.warning("streams end, as their filter cannot be read: %s", error)
        for listener in self._listeners.pop(wanted, ()):
            listener.end()

    async def _skip(self, place: Arrival) -> Arrival:
        """Give up what cannot be read as fast as it arrives."""
        end = await commit_order.head(self._store)
        gap = await commit_order.span(self._store, place, end)
        for listener in [each for group in self._listeners.values() for each in group]:
            listener.seen = end
            listener.put(Frame(end, gap=gap), gap)
        return end


def first(arrived: list[Piece], most: int) -> list[Piece]:
    """Return the first of the ids, at most so many; the rest of a piece is for the next time."""
    found: list[Piece] = []
    for piece in arrived:
        if most <= 0:
            break
        found.append(piece._replace(last_id=min(piece.last_id, piece.first_id + most - 1)))
        most -= piece.n
    return found


def paced(step_ids: int, arrived: list[Piece], n_bytes: int) -> int:
    """Return how many ids to read next time, going by the bytes of these: at most twice as many as this time."""
    n = sum(piece.n for piece in arrived)
    return max(1, min(STEP_IDS, 2 * step_ids, n * STEP_BYTES // max(1, n_bytes)))

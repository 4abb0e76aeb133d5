"""The live tail: one reader per collector follows the commit order and passes new events to the subscribers.

Subscribers with the same filter share its statement and its encoded events. Events that a subscriber does not take in
time are not kept for it: it gets a gap instead. So the cost of slow and of many subscribers is bounded.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from brain_collector.errors import Problem
from brain_collector.query.filter import Filter
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_collector.shares import Slots
from brain_collector.tail import commit_order
from brain_collector.tail.commit_order import Arrival, Piece, Span
from brain_collector.tail.subscriber import Frame, Subscriber, frame_of

RETRY_S: Final = 1.0
STEP_IDS: Final = 2_000
"""Maximum number of events that are read at once."""
STEP_BYTES: Final = 8 * 2**20
"""Approximate maximum of the bytes that these events are encoded to, for all filters together."""
_FIRST_IDS: Final = 100

logger: Final = logging.getLogger(__name__)


class Tail:
    """The subscribers and the reader for all of them. `run()` is its only task."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.slots: Final = Slots("streams", "max_streams", settings)
        self._new: list[Subscriber] = []
        self._subscribers: dict[Filter, set[Subscriber]] = {}
        self._step_ids = _FIRST_IDS
        self._called = asyncio.Event()
        self._closing = False

    @property
    def subscribers(self) -> int:
        """The number of subscribers."""
        return len(self._new) + sum(map(len, self._subscribers.values()))

    @contextmanager
    def subscribing(self, filter: Filter) -> Iterator[Subscriber]:
        """Yield a subscriber, which gets everything that is committed after its `position`."""
        subscriber = Subscriber(filter, self._settings.max_stream_bytes)
        self._new.append(subscriber)
        self._called.set()
        try:
            yield subscriber
        finally:
            if subscriber in self._new:
                self._new.remove(subscriber)
            group = self._subscribers.get(filter, set())
            group.discard(subscriber)
            if not group:
                self._subscribers.pop(filter, None)

    async def missed(self, filter: Filter, after: Arrival, until: Arrival) -> AsyncIterator[Frame]:
        """Yield the events between two positions."""
        while (frame := await self._missed(filter, after, until)) is not None:
            after = frame.position
            yield frame

    async def _missed(self, filter: Filter, after: Arrival, until: Arrival) -> Frame | None:
        """Return the first frame between two positions, None if there is nothing; a gap if it is too much."""
        span = await commit_order.span(self._store, after, until)
        if not span.arrived:
            return None
        if span.arrived > self._settings.max_stream_lag:
            return Frame(until, gap=span)
        arrived = first(await commit_order.pieces(self._store, after, until), self._step_ids)
        try:
            return frame_of(await commit_order.events(self._store, filter, arrived), arrived)
        except Problem:
            self._step_ids = max(1, self._step_ids // 4)  # it may have been too much: the next attempt gets further
            raise

    async def rest(self, filter: Filter, after: Arrival, within_s: float) -> AsyncIterator[Frame]:
        """Yield what was committed before now, to end a stream: all whose order becomes final, and is read, in time."""
        end_at = asyncio.get_running_loop().time() + within_s
        until: Arrival | None = None
        while True:
            try:
                async with asyncio.timeout_at(end_at):
                    until = until or await commit_order.tip(self._store)
                    frame = await self._settled(filter, after, until)
            except (Problem, TimeoutError):
                return
            if frame is None:
                return
            after = frame.position
            yield frame

    async def _settled(self, filter: Filter, after: Arrival, until: Arrival) -> Frame | None:
        """Wait for the next frame and return it; None if there is nothing more up to `until`."""
        while True:
            head = await commit_order.head(self._store)
            frame = await self._missed(filter, after, head)
            if frame is not None or head >= until:
                return frame
            await asyncio.sleep(self._settings.stream_poll_s)

    def close(self) -> None:
        """End `run`."""
        self._closing = True
        self._called.set()

    async def run(self) -> None:
        """Read while there are subscribers, until `close`."""
        position: Arrival | None = None
        while not self._closing:
            if not self.subscribers:
                position = None
                self._called.clear()
                await self._called.wait()
                continue
            try:
                position = await self._step(position or await commit_order.head(self._store))
            except Problem as error:  # the monitor reports a database that is unavailable
                logger.info("the tail is paused: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _step(self, position: Arrival) -> Arrival:
        """Pass on the events after a position; return the position after them."""
        for subscriber in self._new:
            self._subscribers.setdefault(subscriber.filter, set()).add(subscriber)
            subscriber.seen = position
            subscriber.position.set_result(position)
        self._new.clear()
        arrived = await commit_order.pieces(self._store, position)
        if not arrived:
            self._called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stream_poll_s):
                    await self._called.wait()
            return position
        if sum(piece.n for piece in arrived) > self._settings.max_stream_lag:
            return await self._skip(position)
        arrived = first(arrived, self._step_ids)
        frames = {}  # complete before any of it is passed on: after an error, the same events are read again
        for filter in list(self._subscribers):
            try:
                frames[filter] = frame_of(await commit_order.events(self._store, filter, arrived), arrived)
            except Problem as error:
                await self._store.ping()  # if the database responds, the filter is at fault
                self._end(filter, error)
        self._step_ids = paced(self._step_ids, arrived, sum(frame.n_bytes for frame in frames.values()))
        self._pass_on(frames, commit_order.span_of(arrived))
        return arrived[-1].end

    def _pass_on(self, frames: dict[Filter, Frame], span: Span) -> None:
        for filter, frame in frames.items():
            for subscriber in self._subscribers.get(filter, ()):
                subscriber.seen = frame.position
                if frame.parts:
                    subscriber.put(frame, span)

    def _end(self, filter: Filter, error: Problem) -> None:
        """End the subscribers whose filter cannot be read, so that no other waits for it."""
        logger.warning("streams were ended because their filter cannot be read: %s", error)
        for subscriber in self._subscribers.pop(filter, ()):
            subscriber.end()

    async def _skip(self, position: Arrival) -> Arrival:
        """Skip events that cannot be read as fast as they are committed: every subscriber gets a gap."""
        end = await commit_order.head(self._store)
        gap = await commit_order.span(self._store, position, end)
        for subscriber in [each for group in self._subscribers.values() for each in group]:
            subscriber.seen = end
            subscriber.put(Frame(end, gap=gap), gap)
        return end


def first(arrived: list[Piece], max_ids: int) -> list[Piece]:
    """Return the first pieces, with at most `max_ids` ids; the rest of a piece is left for the next step."""
    pieces: list[Piece] = []
    for piece in arrived:
        if max_ids <= 0:
            break
        pieces.append(piece._replace(last_id=min(piece.last_id, piece.first_id + max_ids - 1)))
        max_ids -= piece.n
    return pieces


def paced(step_ids: int, arrived: list[Piece], n_bytes: int) -> int:
    """Return the number of ids of the next step, estimated from the bytes of this one; at most twice as many."""
    n = sum(piece.n for piece in arrived)
    return max(1, min(STEP_IDS, 2 * step_ids, n * STEP_BYTES // max(1, n_bytes)))

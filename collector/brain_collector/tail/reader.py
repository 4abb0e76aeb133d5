"""The live tail: one reader per collector follows the commit order and passes new events to the subscribers.

Subscribers with the same filter share its statement and its encoded events. Events that a subscriber does not take in
time are not kept for it: it gets a gap instead. So the cost of slow and of many subscribers is bounded.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import text

from brain_collector.errors import Problem
from brain_collector.query.filter import Filter
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_collector.shares import Slots
from brain_collector.storage.epochs import ALL, Epoch
from brain_collector.tail import commit_order, portions
from brain_collector.tail.catch_up import FIRST_IDS, STEP_IDS, CatchUp, first
from brain_collector.tail.commit_order import Piece, Reading, Span
from brain_collector.tail.position import Position, end_of
from brain_collector.tail.resumption import resume
from brain_collector.tail.subscriber import Frame, Subscriber, frame_of

RETRY_S: Final = 1.0
STEP_BYTES: Final = 8 * 2**20
"""Approximate maximum of the bytes that these events are encoded to, for all filters together."""

logger: Final = logging.getLogger(__name__)


class Tail:
    """The subscribers and the reader for all of them. `run()` is its only task."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.slots: Final = Slots("streams", "max_streams", settings)
        self.catch_up: Final = CatchUp(store, settings)
        self._new: list[Subscriber] = []
        self._subscribers: dict[Filter, set[Subscriber]] = {}
        self._position: Position | None = None
        self._step: _Step | None = None
        self._step_ids = FIRST_IDS
        self._called = asyncio.Event()
        self._closing = False

    @property
    def subscribers(self) -> int:
        """The number of subscribers."""
        return len(self._new) + sum(map(len, self._subscribers.values()))

    @contextmanager
    def subscribing(self, filter: Filter, after: Position | None = None) -> Iterator[Subscriber]:
        """Yield a subscriber, which gets everything that is committed after its `position`.

        With `after`, it resumes there: `catch_up` has what is between the two.
        """
        subscriber = Subscriber(filter, self._settings.max_stream_bytes, after)
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

    def close(self) -> None:
        """End `run`."""
        self._closing = True
        self._called.set()

    async def run(self) -> None:
        """Read while there are subscribers, until `close`."""
        while not self._closing:
            if not self.subscribers:
                self._position = self._step = None
                self._called.clear()
                await self._called.wait()
                continue
            try:
                await self._advance()
            except Problem as error:  # the monitor reports a database that is unavailable
                logger.info("the tail is paused: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _advance(self) -> None:
        """Finish the current step, or read what has arrived since: it is the next step."""
        if self._step is not None:
            return await self._finish(self._step)
        new = list(self._new)  # their positions are older than the limit that is read now
        reading = await commit_order.read(self._store, self._position or end_of(0))
        if self._position is None or reading.epoch != self._position.epoch:
            return await self._enter(reading)
        if not reading.pieces:  # there is nothing up to the head
            self._position = max(self._position, reading.head)
            for subscriber in self._all():
                subscriber.seen = self._position
        await self._join(new, self._position, reading)
        if not reading.pieces:
            self._called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stream_poll_s):
                    await self._called.wait()
        elif sum(piece.n for piece in reading.pieces) > self._settings.max_stream_lag:
            await self._skip(self._position, reading.head)
        else:
            self._step = _Step(first(reading.pieces, self._step_ids), list(self._subscribers))
        return None

    async def _enter(self, reading: Reading) -> None:
        """Continue in the epoch of a server that is another one than before, or begin to read."""
        if self._position is None:
            self._position = reading.head
            return
        epochs = await self._epochs(reading.epoch)
        ends = {subscriber: resume(subscriber.seen, epochs, reading.limit, reading.head) for subscriber in self._all()}
        gaps = {end: await self.catch_up.gap(*end) for end in set(ends.values()) if end.missing is not None}
        self._position = resume(self._position, epochs, reading.limit, reading.head).after
        for subscriber, end in ends.items():
            subscriber.seen = end.after
            if end in gaps:
                subscriber.put(gaps[end], gaps[end].gap or Span(0, None, None))

    async def _epochs(self, current: int) -> list[Epoch]:
        """Read the epochs, of which the last one must be the current one."""
        rows = await self._store.fetch(text(ALL))
        commit_order.refuse_other(rows[-1].current, current)
        return [Epoch(*row[:-1]) for row in rows]

    async def _join(self, new: list[Subscriber], position: Position, reading: Reading) -> None:
        """Let new subscribers get events from a position on; those that resume after it join later."""
        epochs = await self._epochs(reading.epoch) if any(subscriber.after for subscriber in new) else []
        reached = position if reading.pieces else max(position, reading.limit)
        for subscriber in new:
            resumption = None
            if subscriber.after is not None:
                resumption = resume(subscriber.after, epochs, reading.limit, otherwise=position)
            if subscriber not in self._new or (resumption is not None and resumption.after > reached):
                continue
            self._new.remove(subscriber)
            group = self._subscribers.setdefault(subscriber.filter, set())
            subscriber.seen = max((other.seen for other in group), default=position)  # all of a group are equal
            group.add(subscriber)
            subscriber.resumption = resumption
            subscriber.position.set_result(subscriber.seen)

    async def _finish(self, step: "_Step") -> None:
        """Pass the events of a step on, of one filter after the other. After an error, the rest of it is read again."""
        while step.filters:
            filter = step.filters[-1]
            try:
                await self._pass_on(filter, step)
            except commit_order.OtherEpoch:
                self._step = None
                raise
            except Problem as error:
                await self._store.ping()  # if the database responds, the filter is at fault
                self._end(filter, error)
            step.filters.pop()
        self._step_ids = paced(self._step_ids, step.arrived, step.n_bytes)
        self._position, self._step = step.arrived[-1].end, None

    async def _pass_on(self, filter: Filter, step: "_Step") -> None:
        """Read the events that match a filter in portions, and put each into the queues before the next is read."""
        group = self._subscribers.get(filter, set())
        arrived = after(max(subscriber.seen for subscriber in group), step.arrived) if group else []
        if not arrived:
            return
        async for portion in portions.events(self._store, filter, arrived, self.catch_up.portion_bytes):
            frame = frame_of(portion)
            step.n_bytes += frame.n_bytes
            for subscriber in self._subscribers.get(filter, ()):
                subscriber.seen = frame.position
                if frame.parts:
                    subscriber.put(frame, portion.span)

    def _end(self, filter: Filter, error: Problem) -> None:
        """End the subscribers whose filter cannot be read, so that no other waits for it."""
        logger.warning("streams were ended because their filter cannot be read: %s", error)
        for subscriber in self._subscribers.pop(filter, ()):
            subscriber.end()

    async def _skip(self, position: Position, end: Position) -> None:
        """Skip events that cannot be read as fast as they are committed: every subscriber gets a gap."""
        gap = await commit_order.span(self._store, position, end)
        for subscriber in self._all():
            subscriber.seen = end
            subscriber.put(Frame(end, gap=gap), gap)
        self._position = end

    def _all(self) -> list[Subscriber]:
        return [each for group in self._subscribers.values() for each in group]


class _Step:
    """Pieces that are being passed on, and the filters for which they have not been passed on completely."""

    def __init__(self, arrived: list[Piece], filters: list[Filter]) -> None:
        self.arrived = arrived
        self.filters = filters
        self.n_bytes = 0


def after(position: Position, arrived: list[Piece]) -> list[Piece]:
    """Return the pieces without what is at or before a position."""
    return [
        piece._replace(first_id=max(piece.first_id, position.id + 1)) if piece.xid == position.xid else piece
        for piece in arrived
        if piece.end > position
    ]


def paced(step_ids: int, arrived: list[Piece], n_bytes: int) -> int:
    """Return the number of ids of the next step, estimated from the bytes of this one; at most twice as many."""
    n = sum(piece.n for piece in arrived)
    return max(1, min(STEP_IDS, 2 * step_ids, n * STEP_BYTES // max(1, n_bytes)))

"""Reads the events that a stream has missed: before the reader's position when it joins, after it when it ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from brain_collector.errors import Problem
from brain_collector.read.store import Reads, Store
from brain_collector.settings import Settings
from brain_collector.tail import commit_order, portions
from brain_collector.tail.commit_order import Piece, Span
from brain_collector.tail.position import Position
from brain_collector.tail.resumption import Missing
from brain_collector.tail.subscriber import Frame, Subscriber, frame_of

STEP_IDS: Final = 2_000
"""Maximum number of events that are read at once."""
FIRST_IDS: Final = 100


class _Caller:
    """The reads of a caller's streams: one statement at a time, so that they leave connections to other callers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self.step_ids = FIRST_IDS

    async def fetch(self, query: Any) -> list[Any]:
        async with self._turn:
            return await self._store.fetch(query)


class CatchUp:
    """Reads for single streams, in portions that the client takes before the next is read."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._callers: dict[str, _Caller] = {}
        self.portion_bytes: Final = settings.max_stream_bytes // 2
        """Approximate maximum size of the events that are read at once."""

    async def missed(self, subscriber: Subscriber) -> AsyncIterator[Frame]:
        """Yield the events that a resuming subscriber has missed, up to its `position`: first a gap, if there is one.

        Raises:
            Problem: it cannot be read now; the client should connect again.
        """
        if subscriber.resumption is None:
            return
        after, missing = subscriber.resumption
        if missing is not None:
            yield await gap_before(self._reads_of(subscriber), after, missing)
        async for frame in self._between(subscriber, after, subscriber.position.result()):
            yield frame

    async def rest(self, subscriber: Subscriber, after: Position, within_s: float) -> AsyncIterator[Frame]:
        """Yield the events committed before now, to end a stream, if their order is final and they are read in time."""
        end_at = asyncio.get_running_loop().time() + within_s
        until: Position | None = None
        try:
            while until is None or after < until:
                async with asyncio.timeout_at(end_at):
                    until = until or await commit_order.tip(self._store)
                    limit = min(await commit_order.limit(self._store), until)
                frames = self._between(subscriber, after, limit)
                while True:
                    async with asyncio.timeout_at(end_at):
                        frame = await anext(frames, None)
                    if frame is None:
                        break
                    yield frame
                after = max(after, limit)
                async with asyncio.timeout_at(end_at):
                    await asyncio.sleep(self._settings.stream_poll_s if after < until else 0)
        except (Problem, TimeoutError):
            return

    async def _between(self, subscriber: Subscriber, after: Position, until: Position) -> AsyncIterator[Frame]:
        """Yield the events between two positions; a gap instead of the rest of them once that is too much."""
        caller = self._reads_of(subscriber)
        while after < until:
            reading = await commit_order.read(caller, after, until)
            commit_order.refuse_other(reading.epoch, after.epoch)
            if reading.is_forgotten:
                raise commit_order.Forgotten  # the next attempt is told of the gap
            if not reading.pieces:
                return
            span = await commit_order.span(caller, after, until)
            if span.arrived > self._settings.max_stream_lag:
                yield Frame(until, gap=span)
                return
            arrived = first(reading.pieces, caller.step_ids)
            try:
                async for portion in portions.events(caller, subscriber.filter, arrived, self.portion_bytes):
                    frame = frame_of(portion)
                    yield frame if frame.n_bytes <= self._settings.max_stream_bytes else frame.as_gap(portion.span)
            except Problem:
                # It may have been too much: with smaller steps, the next attempt gets further.
                caller.step_ids = max(1, caller.step_ids // 4)
                raise
            caller.step_ids = min(STEP_IDS, 2 * caller.step_ids)
            after = arrived[-1].end

    def _reads_of(self, subscriber: Subscriber) -> _Caller:
        return self._callers.setdefault(subscriber.caller, _Caller(self._store))


async def gap_before(reads: Reads, after: Position, missing: Missing | None) -> Frame:
    """Return the gap over the events up to a position that were stored, or happened, in a time range."""
    assert missing is not None
    span = await commit_order.received(reads, missing.since, after)
    return Frame(after, gap=span + Span(0, missing.since, missing.until or datetime.now(UTC)))


def first(arrived: list[Piece], max_ids: int) -> list[Piece]:
    """Return the first pieces, with at most `max_ids` ids; the rest of a piece is left for the next step."""
    pieces: list[Piece] = []
    for piece in arrived:
        if max_ids <= 0:
            break
        pieces.append(piece._replace(last_id=min(piece.last_id, piece.first_id + max_ids - 1)))
        max_ids -= piece.n
    return pieces

"""The live tail: a reader per collector follows the commit order, and one per caller passes new events on.

What a caller's filters cost delays the streams of this caller only: each caller has a reader of its own, with at most
one statement at a time. Subscribers with the same filter share its statement and its encoded events; if they belong to
several callers, whichever of their readers comes first reads for all of them. Events that a subscriber does not take in
time, or that cannot be read for it in time, are not kept: it gets a gap instead. So the cost of slow, of many and of
expensive subscribers is bounded.
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
from brain_collector.shares import OPEN_CALLER, Slots
from brain_collector.storage.epochs import ALL, Epoch
from brain_collector.tail import commit_order, portions
from brain_collector.tail.arrivals import Arrivals
from brain_collector.tail.catch_up import CatchUp, first, gap_before
from brain_collector.tail.commit_order import Piece, Reading, span_of
from brain_collector.tail.groups import Group, Turns, paced
from brain_collector.tail.position import Position, end_of
from brain_collector.tail.resumption import Resumption, resume
from brain_collector.tail.subscriber import Frame, Subscriber, frame_of

RETRY_S: Final = 1.0

logger: Final = logging.getLogger(__name__)


class Tail:
    """The subscribers and the readers for all of them. `run()` is its only task; it starts the readers of callers.

    `_arrivals` has every piece that a group has yet to get: those after the `seen` of the group, up to `_position`.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.slots: Final = Slots("streams", "max_streams", settings)
        self.catch_up: Final = CatchUp(store, settings)
        self._new: list[Subscriber] = []
        self._groups: dict[Filter, Group] = {}
        self._position: Position | None = None
        self._arrivals = Arrivals()
        self._turns = Turns()
        self._read_callers: set[str] = set()
        """The callers whose reader is running."""
        self._called = asyncio.Event()
        self._closing = False

    @property
    def subscribers(self) -> int:
        """The number of subscribers."""
        return len(self._new) + sum(len(group.subscribers) for group in self._groups.values())

    @contextmanager
    def subscribing(
        self, filter: Filter, after: Position | None = None, caller: str = OPEN_CALLER
    ) -> Iterator[Subscriber]:
        """Yield a subscriber, which gets everything that is committed after its `position`.

        With `after`, it resumes there: `catch_up` has what is between the two.
        """
        subscriber = Subscriber(filter, self._settings.max_stream_bytes, after, caller)
        self._new.append(subscriber)
        self._called.set()
        try:
            yield subscriber
        finally:
            if subscriber in self._new:
                self._new.remove(subscriber)
            group = self._groups.get(filter)
            if group is not None:
                group.subscribers.discard(subscriber)
                if not group.subscribers:
                    del self._groups[filter]

    def close(self) -> None:
        """End `run`."""
        self._closing = True
        self._called.set()

    async def run(self) -> None:
        """Read while there are subscribers, until `close`."""
        async with asyncio.TaskGroup() as tasks:
            while not self._closing:
                if not self.subscribers:
                    self._position = None
                    self._arrivals.clear()
                    self._called.clear()
                    await self._called.wait()
                    continue
                try:
                    await self._advance()
                except Problem as error:  # the monitor reports a database that is unavailable
                    logger.info("the tail is paused: %s", error)
                    await asyncio.sleep(RETRY_S)
                for caller in {caller for group in self._behind() for caller in group.callers} - self._read_callers:
                    self._read_callers.add(caller)
                    tasks.create_task(self._read_for(caller))

    async def _advance(self) -> None:
        """Read which pieces have arrived, for all groups."""
        new = list(self._new)  # their positions are older than the limit that is read now
        reading = await commit_order.read(self._store, self._position or end_of(0))
        if self._position is None or reading.epoch != self._position.epoch:
            return await self._enter(reading)
        if not reading.pieces:  # there is nothing up to the head
            position = max(self._position, reading.head)
            for group in self._groups.values():
                if group.seen >= self._position:
                    group.pass_on(Frame(max(group.seen, position)))
            self._position = position
        await self._join(new, self._position, reading)
        if not reading.pieces:
            self._called.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stream_poll_s):
                    await self._called.wait()
        else:
            self._arrivals.add(reading.pieces)
            self._position = reading.pieces[-1].end
            self._bound()
        return None

    def _bound(self) -> None:
        """Forget the pieces that every group has got. Groups that are too far behind get a gap instead of the rest."""
        self._forget()
        while self._arrivals.n > self._settings.max_stream_lag:
            furthest = min(group.seen for group in self._groups.values())
            span = span_of(rest := self._arrivals.after(furthest))
            for group in self._groups.values():
                if group.seen == furthest:
                    group.pass_on(Frame(rest[-1].end, gap=span), span)
            self._forget()

    def _forget(self) -> None:
        ends = [group.seen for group in self._groups.values()]
        self._arrivals.forget(min(ends) if ends else end_of(self._position.epoch if self._position else 0))

    async def _enter(self, reading: Reading) -> None:
        """Continue in the epoch of a server that is another one than before, or begin to read."""
        if self._position is None:
            self._position = reading.head
            return
        epochs = await self._epochs(reading.epoch)
        ends = self._ends(epochs, reading)
        gaps = {end: await gap_before(self._store, *end) for end in set(ends.values()) if end.missing is not None}
        if ends != self._ends(epochs, reading):  # a group has got more meanwhile, which was read before
            return
        position = resume(self._position, epochs, reading.limit, reading.head).after
        self._position = min([position, *(end.after for end in ends.values())])
        self._arrivals.clear()
        for group, end in ends.items():
            frame = gaps.get(end, Frame(end.after))
            group.pass_on(frame, frame.gap)

    def _ends(self, epochs: list[Epoch], reading: Reading) -> dict[Group, Resumption]:
        """Return where each group continues in the last of the epochs."""
        return {group: resume(group.seen, epochs, reading.limit, reading.head) for group in self._groups.values()}

    async def _epochs(self, current: int) -> list[Epoch]:
        """Read the epochs, of which the last one must be the current one."""
        rows = await self._store.fetch(text(ALL))
        commit_order.refuse_other(rows[-1].current, current)
        return [Epoch(*row[:-1]) for row in rows]

    async def _join(self, new: list[Subscriber], position: Position, reading: Reading) -> None:
        """Let new subscribers get events from a position on; those that resume after it join later."""
        epochs = await self._epochs(reading.epoch) if any(subscriber.after for subscriber in new) else []
        for subscriber in new:
            group = self._groups.get(subscriber.filter) or Group(subscriber.filter, position)
            has_rest = bool(reading.pieces) or group.seen < position
            reached = group.seen if has_rest else max(group.seen, reading.limit)
            resumption = None
            if subscriber.after is not None:
                resumption = resume(subscriber.after, epochs, reading.limit, otherwise=group.seen)
            if subscriber not in self._new or (resumption is not None and resumption.after > reached):
                continue
            self._new.remove(subscriber)
            self._groups[subscriber.filter] = group
            group.add(subscriber)
            subscriber.resumption = resumption
            subscriber.position.set_result(group.seen)

    def _behind(self) -> list[Group]:
        """Return the groups for which there is something to read, and for which nobody reads."""
        return [
            group
            for group in self._groups.values()
            if self._position is not None and group.seen < self._position and not group.is_read
        ]

    async def _read_for(self, caller: str) -> None:
        """Read for the groups of a caller, one step at a time, until there is nothing left to read."""
        try:
            while not self._closing:
                group = self._turns.next(group for group in self._behind() if caller in group.callers)
                if group is None:
                    return
                await self._read_step(group)
        except Problem as error:
            logger.info("a reader of the tail is paused: %s", error)
            await asyncio.sleep(RETRY_S)
        finally:
            self._read_callers.discard(caller)
            if self._new:  # some may wait for what has been read
                self._called.set()

    async def _read_step(self, group: Group) -> None:
        """Pass some of the events on that the group has yet to get. After an error, the rest is read again."""
        arrived = first(self._arrivals.after(group.seen), group.step_ids)
        if not arrived:  # there is nothing up to the position
            assert self._position is not None
            group.pass_on(Frame(self._position))
            return
        now = asyncio.get_running_loop().time
        began = now()
        group.is_read = True
        try:
            n_bytes = await self._pass_on(group, arrived)
            group.step_ids = paced(group.step_ids, sum(piece.n for piece in arrived), n_bytes, now() - began)
        except commit_order.OtherEpoch:
            raise
        except Problem as error:
            await self._store.ping()  # if the database responds, the filter is at fault
            self._end(group, error)
        finally:
            group.is_read = False
            self._turns.charge(group, now() - began)

    async def _pass_on(self, group: Group, arrived: list[Piece]) -> int:
        """Read the matching events in portions, and put each into the queues before the next is read; return the bytes.

        End early if the group was moved meanwhile, to skip events or to follow another server, or if nobody is left.
        """
        n_bytes = 0
        seen = group.seen
        async for portion in portions.events(self._store, group.filter, arrived, self.catch_up.portion_bytes):
            if group.seen != seen or not group.subscribers:
                break
            frame = frame_of(portion)
            group.pass_on(frame, portion.span)
            n_bytes += frame.n_bytes
            seen = frame.position
        return n_bytes

    def _end(self, group: Group, error: Problem) -> None:
        """End the subscribers whose filter cannot be read, so that no other waits for it."""
        logger.warning("streams were ended because their filter cannot be read: %s", error)
        for subscriber in group.subscribers:
            subscriber.end()
        if self._groups.get(group.filter) is group:
            del self._groups[group.filter]

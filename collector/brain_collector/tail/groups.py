"""Groups of subscribers with the same filter, how much is read for one at once, and which one is next."""

from collections.abc import Iterable
from typing import Final

from brain_collector.query.filter import Filter
from brain_collector.tail.catch_up import FIRST_IDS, STEP_IDS
from brain_collector.tail.commit_order import Span
from brain_collector.tail.position import Position
from brain_collector.tail.subscriber import Frame, Subscriber

STEP_BYTES: Final = 8 * 2**20
"""Approximate maximum of the bytes that the events of a step are encoded to."""
STEP_S: Final = 0.5
"""Approximate maximum of the seconds that a step takes."""


class Group:
    """Subscribers with the same filter: they share statements and encoded events, and are at the same position."""

    def __init__(self, filter: Filter, seen: Position) -> None:
        self.filter = filter
        self.seen = seen
        self.subscribers: set[Subscriber] = set()
        self.is_read = False
        """A step of this group is being read."""
        self.step_ids = FIRST_IDS
        self.due = 0.0
        """When it is the group's turn, as the sum of the seconds that its steps took; see `Turns`."""

    @property
    def callers(self) -> set[str]:
        """The callers of the subscribers."""
        return {subscriber.caller for subscriber in self.subscribers}

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber, which gets everything after the position of the group."""
        subscriber.seen = self.seen
        self.subscribers.add(subscriber)

    def pass_on(self, frame: Frame, span: Span | None = None) -> None:
        """Put the frame into all queues if it is not empty, and move to its end; `span` is its share of a gap."""
        self.seen = frame.position
        for subscriber in self.subscribers:
            subscriber.seen = frame.position
            if frame.parts or frame.gap is not None:
                subscriber.put(frame, span or Span(0, None, None))


class Turns:
    """Shares the time for reading evenly among groups: the next one is the one that has taken the least.

    A group that had nothing to read meanwhile gains nothing by that. This is start-time fair queuing (Goyal, 1996).
    """

    def __init__(self) -> None:
        self._now = 0.0

    def next(self, groups: Iterable[Group]) -> Group | None:
        """Return the group whose turn is next, if there is any."""
        group = min(groups, key=lambda group: group.due, default=None)
        if group is not None:
            self._now = max(self._now, group.due)
        return group

    def charge(self, group: Group, seconds: float) -> None:
        """Move the next turn of a group by the time that its step has taken."""
        group.due = max(group.due, self._now) + seconds


def paced(step_ids: int, n: int, n_bytes: int, seconds: float) -> int:
    """Return the number of ids of the next step, estimated from the size and time of one with n; at most twice as many.

    A step that takes longer than `STEP_S` shrinks, whether its events match or not.
    """
    within_bytes = n * STEP_BYTES // max(1, n_bytes)
    within_time = STEP_IDS if seconds <= STEP_S else int(n * STEP_S / seconds)
    return max(1, min(STEP_IDS, 2 * step_ids, within_bytes, within_time))

"""Track batches that are not settled, so that `flush` knows when all events logged before it are delivered."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from brain_events._queue.journal import Part
from brain_events._queue.memory_journal import MappedPart


class Mark(msgspec.Struct):
    """A moment: the events before it are the first `lines`, those in `parts`, and the batches up to `number`."""

    lines: int
    parts: list[Part] | list[MappedPart]
    lost: int
    number: int | None = None


class Unsettled:
    """The unsettled batches of this process, numbered in sealing order. Used under the lock of `Delivery`."""

    def __init__(self) -> None:
        self.lost = 0
        """Number of events that were sealed here and lost."""
        self._numbers: dict[UUID, int] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, key: UUID) -> None:
        """Add a batch that was just sealed."""
        self._last += 1
        self._numbers[key] = self._last

    def settle(self, key: UUID) -> bool:
        """Remove a batch; return False if it is not one of this process."""
        return self._numbers.pop(key, None) is not None

    def lose(self, key: UUID, count: int) -> None:
        """Remove a batch whose file was empty or missing; `Outbox` has counted the lost events."""
        if self.settle(key):
            self.lost += count

    def split(self, key: UUID, into: Iterable[UUID]) -> None:
        """Replace a batch by its parts."""
        if (number := self._numbers.pop(key, None)) is not None:
            self._numbers.update((part, number) for part in into)

    def is_past(self, mark: Mark) -> bool:
        """Return whether every batch sealed before `mark` is settled. All events before `mark` must be sealed."""
        if mark.number is None:
            mark.number = self._last
        return not any(number <= mark.number for number in self._numbers.values())

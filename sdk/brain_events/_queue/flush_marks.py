"""What is owed: the batches of events that were logged here and are not settled; so `flush` knows when it is done."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from brain_events._queue.journal import Part


class Mark(msgspec.Struct):
    """A moment: what was logged before it are the first `lines`, what is in `parts`, and the batches up to `number`."""

    lines: int
    parts: list[Part]
    lost: int
    number: int | None = None


class Owed:
    """Numbers batches in the order of their sealing; used under the lock of `Delivery`."""

    def __init__(self) -> None:
        self.lost = 0
        """Events that were sealed here, and lost."""
        self._numbers: dict[UUID, int] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, key: UUID) -> None:
        """Owe a batch."""
        self._last += 1
        self._numbers[key] = self._last

    def settle(self, key: UUID) -> bool:
        """Owe a batch no more; return whether it was owed, and not of another process."""
        return self._numbers.pop(key, None) is not None

    def lose(self, key: UUID, count: int) -> None:
        """Owe a batch no more whose file had nothing (any more): `Outbox` has counted what is lost."""
        if self.settle(key):
            self.lost += count

    def split(self, key: UUID, into: Iterable[UUID]) -> None:
        """Owe parts in place of a batch."""
        if (number := self._numbers.pop(key, None)) is not None:
            self._numbers.update((part, number) for part in into)

    def is_past(self, mark: Mark) -> bool:
        """Tell whether every batch sealed before `mark` is settled; all its events must be sealed."""
        if mark.number is None:
            mark.number = self._last
        return not any(number <= mark.number for number in self._numbers.values())

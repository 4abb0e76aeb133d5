"""Adds up counts of values that come part by part, in bounded memory, without a wrong number.

While no part has more values than are listed, all of them are added. Once one has more, the most frequent values so far
are fixed: only they are counted by name in this and further parts, and everything else is added to the rest. So each
number is exact, and so is the rest; a value that is frequent in later parts only is part of the rest.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from brain_collector.counts.leading import Value


class FieldCounts(NamedTuple):
    """The counts of a field by bucket: those of its listed values, and the rest."""

    listed: dict[Value, Counter[int]]
    rest: Counter[int]

    @property
    def total(self) -> int:
        """The number of all events."""
        return self.rest.total() + sum(counts.total() for counts in self.listed.values())


class Tally:
    """The counts of some fields. Rows are those of `leading`."""

    def __init__(self, fields: Sequence[str], most: int) -> None:
        self._most = most
        self.counts = {field: FieldCounts({}, Counter()) for field in fields}
        self.known: dict[str, list[Value]] = {}
        """The fields whose values are fixed, and these values."""

    def add(self, rows: Iterable[Any]) -> None:
        """Add the rows of a part, which was queried with `known`."""
        for field, is_listed, value, starts, numbers in rows:
            listed, rest = self.counts[field]
            (listed.setdefault(value, Counter()) if is_listed else rest).update(dict(zip(starts, numbers, strict=True)))
        for field, counts in self.counts.items():
            if len(counts.listed) > self._most:
                self._fix(field, {value: each.total() for value, each in counts.listed.items()})

    def is_cut(self, rows: Sequence[Any]) -> bool:
        """Return whether the part has more values than its rows list, of a field that is not fixed yet.

        These fields are fixed then, and the part has to be queried again.
        """
        cut = {row[0] for row in rows if not row[1]} - self.known.keys()
        for field in cut:
            totals = {value: counts.total() for value, counts in self.counts[field].listed.items()}
            for _, _, value, _, numbers in (row for row in rows if row[0] == field and row[1]):
                totals[value] = totals.get(value, 0) + sum(numbers)
            self._fix(field, totals)
        return bool(cut)

    def _fix(self, field: str, totals: dict[Value, int]) -> None:
        self.known[field] = sorted(totals, key=lambda value: -totals[value])[: self._most]
        listed, rest = self.counts[field]
        for value in listed.keys() - set(self.known[field]):
            rest.update(listed.pop(value))

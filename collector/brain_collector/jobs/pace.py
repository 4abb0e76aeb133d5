"""The size of the steps of a job that works through a backlog, and the rest between them."""

from typing import Final

LEAST: Final = 1
"""The smallest step after a failure: if it fails too, the item that causes the failure is known."""
FALL: Final = 64
"""A step that failed is followed by one that is this many times smaller."""


class Pace:
    """Adapts the size of a step to the time that the last ones took, between `small` and `most`.

    While more steps are due, the job rests as long as a step took, so that ingest has priority. After a failure, steps
    become smaller than `small`, and remain so until they have passed what made it fail: each further failure costs the
    time of a deadline.
    """

    def __init__(self, *, small: int, most: int, long_s: float) -> None:
        self._small = small
        self._most = most
        self._long_s = long_s
        self._careful = 0
        self.size = most
        self.is_more = False
        self.spent_s = 0.0

    def done(self, spent_s: float, *, is_more: bool) -> None:
        """Note a step: one that took longer than `long_s` is followed by a smaller one."""
        self.spent_s, self.is_more = spent_s, is_more
        self._careful = max(0, self._careful - self.size)
        if self.size > self._small and spent_s > self._long_s:
            self.size = max(self._small, self.size // 2)
        elif is_more and not self._careful and (self.size < self._small or spent_s <= self._long_s):
            self.size = min(self._most, self.size * 2)

    def failed(self) -> None:
        """Note a step that failed."""
        self.is_more = False
        self._careful = self.size
        self.size = max(LEAST, self.size // FALL)

    def rest_s(self, interval_s: float) -> float:
        """Return the rest after the last step."""
        return self.spent_s if self.is_more else interval_s

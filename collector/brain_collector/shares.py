"""Shares: an amount that all callers use, such as memory or slots, of which no caller may take all.

A caller may hold a part of what the others leave, half of it by default. So the first holds at most a half, two hold a
third each, three a quarter; and as much again is free for the next caller at once, because memory cannot be taken back
from a caller that holds it. Callers without an API key cannot be distinguished, so no share limits them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

from brain_collector.errors import Unavailable
from brain_collector.settings import ENV_PREFIX, Settings

OPEN_CALLER: Final = "open"
"""The name of every caller if no API key is required."""

Obstacle = Literal["caller", "total"]
"""Why no more can be taken: the caller holds its share, or all callers together hold the maximum."""
OBSTACLES: Final[tuple[Obstacle, ...]] = get_args(Obstacle)


class SharedAmount:
    """An amount with a maximum: how much of it each caller holds."""

    def __init__(self, maximum: int, share: float) -> None:
        self.maximum = maximum
        self.taken = 0
        self.refused: Counter[Obstacle] = Counter()
        self._share = share
        self._held: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """Return how much a caller holds."""
        return self._held.get(caller, 0)

    def obstacle(self, caller: str, n: int, held: int = 0) -> Obstacle | None:
        """Return why a caller may not take n more for a request that holds `held`, or None if it may.

        If a caller has only one request, it may take all that is left.
        """
        if self.taken + n > self.maximum:
            return "total"
        mine = self._held.get(caller, 0)
        others = self.taken - mine
        is_within = mine == held or caller == OPEN_CALLER or mine + n <= self._share * (self.maximum - others)
        return None if is_within else "caller"

    def take(self, caller: str, n: int) -> None:
        """Add n to what the caller holds; subtract it if n is negative."""
        self.taken += n
        held = self._held.get(caller, 0) + n
        if held:
            self._held[caller] = held
        else:
            self._held.pop(caller, None)


class Slots:
    """The concurrent responses of one kind, such as exports, that callers may have open; `setting` is their maximum."""

    def __init__(self, kind: str, setting: str, settings: Settings) -> None:
        self.amount: Final = SharedAmount(getattr(settings, setting), settings.caller_share)
        self._kind = kind
        self._setting = setting
        self._retry_after_s = settings.retry_after_s

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Hold a slot during the block.

        Raises:
            Unavailable: see `refuse_if_full`.
        """
        self.refuse_if_full(caller)
        self.amount.take(caller, 1)
        try:
            yield
        finally:
            self.amount.take(caller, -1)

    def refuse_if_full(self, caller: str) -> None:
        """Refuse another slot, and count that, if the caller may not have one.

        Raises:
            Unavailable: the caller holds its share, or the maximum is reached.
        """
        obstacle = self.amount.obstacle(caller, 1)
        if obstacle is None:
            return
        self.amount.refused[obstacle] += 1
        if obstacle == "total":
            reason = f"the maximum of {self.amount.maximum} concurrent {self._kind} is reached ({_name(self._setting)})"
        else:
            reason = (
                f"this API key has {self.amount.held_by(caller)} of {self.amount.maximum} concurrent {self._kind}, "
                f"which is its share ({_name('caller_share')}, {_name(self._setting)})"
            )
        raise Unavailable(f"{reason}; try again in {self._retry_after_s} s", retry_after_s=self._retry_after_s)


def _name(setting: str) -> str:
    return ENV_PREFIX + setting.upper()

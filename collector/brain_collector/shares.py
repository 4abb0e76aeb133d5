"""Shares: an amount that all callers use, such as memory or connections, of which no caller may take all.

A caller may hold a part of what the others leave, half of it by default. So the first holds at most a half, two hold a
third each, three a quarter; and as much again is free for the next caller at once, because memory cannot be taken back
from a caller that holds it. Callers without an API key cannot be distinguished, so no share limits them.

Requests that wait for an amount get it in turn: one of each caller, in the order of arrival.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final, Literal, get_args

from brain_collector.errors import Unavailable
from brain_collector.settings import ENV_PREFIX, Settings

OPEN_CALLER: Final = "open"
"""The name of every caller if no API key is required."""
OWN_CALLER: Final = "collector"
"""The name of the collector itself, for work that belongs to no request."""
current_caller: Final[ContextVar[str]] = ContextVar("current_caller", default=OWN_CALLER)
"""The caller whose request the current task serves; the guard sets it. So no read can leave out its caller."""

Obstacle = Literal["caller", "total"]
"""Why no more can be taken: the caller holds its share, or all callers together hold the maximum."""
OBSTACLES: Final[tuple[Obstacle, ...]] = get_args(Obstacle)


class SharedAmount:
    """An amount with a maximum: how much of it each caller holds.

    If it `is_exceedable`, a request that is the only one may take more than the maximum.
    """

    def __init__(self, maximum: int, share: float, *, is_exceedable: bool = False) -> None:
        self.maximum = maximum
        self.taken = 0
        self.refused: Counter[Obstacle] = Counter()
        self._share = share
        self._is_exceedable = is_exceedable
        self._held: dict[str, int] = {}

    def held_by(self, caller: str) -> int:
        """Return how much a caller holds."""
        return self._held.get(caller, 0)

    def obstacle(self, caller: str, n: int, held: int = 0) -> Obstacle | None:
        """Return why a caller may not take n more for a request that holds `held`, or None if it may.

        If a caller has only one request, it may take all that is left.
        """
        if self._is_exceedable and self.taken == held:
            return None
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


class Turns:
    """The requests that wait for a part of an amount. They get it in turn: the first one of each caller."""

    def __init__(self, amount: SharedAmount) -> None:
        self._amount = amount
        self._queues: OrderedDict[str, dict[asyncio.Future[None], int]] = OrderedDict()  # by caller, the next one first

    def take_if_free(self, caller: str, n: int) -> bool:
        """Take n if they are free for the caller and none of its requests waits; return whether that is so."""
        if caller in self._queues or self._amount.obstacle(caller, n) is not None:
            return False
        self._amount.take(caller, n)
        return True

    async def wait_for(self, caller: str, n: int, timeout_s: float, *ends: "asyncio.Future[None]") -> bool:
        """Take n when it is the request's turn; return False after the time-out, or once one of `ends` is done."""
        admitted = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, {})[admitted] = n
        is_admitted = False
        try:
            await asyncio.wait([admitted, *ends], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            is_admitted = admitted.done() and not any(end.done() for end in ends)
        finally:
            if not is_admitted:
                self._give_up(caller, admitted, n)
        return is_admitted

    def release(self, caller: str, n: int) -> None:
        """Release n, and admit requests that wait."""
        self._amount.take(caller, -n)
        if self._queues:
            self._admit_waiting()

    def _give_up(self, caller: str, admitted: "asyncio.Future[None]", n: int) -> None:
        """Remove a request from the queue, or release its part if it was admitted at the moment it gave up."""
        if admitted.done():
            self.release(caller, n)
        else:
            self._dequeue(caller, admitted)
            self._admit_waiting()  # the caller's next one may be smaller

    def _dequeue(self, caller: str, admitted: "asyncio.Future[None]") -> None:
        queue = self._queues[caller]
        del queue[admitted]
        if not queue:
            del self._queues[caller]

    def _admit_waiting(self) -> None:
        """Admit the requests that fit now: the first one of each caller in turn, until none fits."""
        n_blocked = 0
        while n_blocked < len(self._queues):
            caller, queue = next(iter(self._queues.items()))
            self._queues.move_to_end(caller)
            admitted, n = next(iter(queue.items()))
            if self._amount.obstacle(caller, n) is not None:
                n_blocked += 1
                continue
            n_blocked = 0
            self._dequeue(caller, admitted)
            self._amount.take(caller, n)
            admitted.set_result(None)


class Slots:
    """The concurrent uses of one kind, such as exports, that callers may have; `setting` is their maximum."""

    def __init__(self, kind: str, setting: str, settings: Settings) -> None:
        self.amount: Final = SharedAmount(getattr(settings, setting), settings.caller_share)
        self._turns = Turns(self.amount)
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
            self._turns.release(caller, 1)

    @asynccontextmanager
    async def one_in_turn(self, caller: str, wait_s: float) -> AsyncIterator[None]:
        """Hold a slot during the block; wait for the caller's turn if there is none at once.

        Raises:
            Unavailable: the caller's turn does not come within `wait_s`.
        """
        if not (self._turns.take_if_free(caller, 1) or await self._turns.wait_for(caller, 1, wait_s)):
            raise self._refusal(caller, self.amount.obstacle(caller, 1) or "total")
        try:
            yield
        finally:
            self._turns.release(caller, 1)

    def refuse_if_full(self, caller: str) -> None:
        """Refuse another slot, and count that, if the caller may not have one.

        Raises:
            Unavailable: the caller holds its share, or the maximum is reached.
        """
        if (obstacle := self.amount.obstacle(caller, 1)) is not None:
            raise self._refusal(caller, obstacle)

    def _refusal(self, caller: str, obstacle: Obstacle) -> Unavailable:
        self.amount.refused[obstacle] += 1
        if obstacle == "total":
            reason = f"the maximum of {self.amount.maximum} concurrent {self._kind} is reached ({_name(self._setting)})"
        else:
            reason = (
                f"this API key has {self.amount.held_by(caller)} of {self.amount.maximum} concurrent {self._kind}, "
                f"which is its share ({_name('caller_share')}, {_name(self._setting)})"
            )
        return Unavailable(f"{reason}; try again in {self._retry_after_s} s", retry_after_s=self._retry_after_s)


def _name(setting: str) -> str:
    return ENV_PREFIX + setting.upper()

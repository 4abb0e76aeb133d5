"""A memory budget for requests in progress: a request that exceeds it waits for its turn, then is refused.

So an overloaded collector keeps working: admitted requests are completed, a refused one costs next to nothing, and
a client gains nothing by retrying faster. No caller holds all of the budget (see `shares`), and those that wait are
admitted in turn: one of each caller, in the order of arrival.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import ClientDisconnect

from brain_collector.errors import Unavailable
from brain_collector.settings import Settings
from brain_collector.shares import Obstacle, SharedAmount, Turns

PROMISE_S: Final = 0.5
"""How long the announced size of a body counts. After it, the body counts by the bytes that have come."""
DISTRUST_S: Final = 10.0
"""How long no announced size of a caller counts after one of its bodies was late."""
UNPROVEN_BYTES: Final = 64 * 2**10
"""The announced size that counts then: about what a connection has received before anybody asks for its body."""


class Budget:
    """The memory of requests in progress, up to `max_bytes`. A request that is the only one may exceed it."""

    def __init__(self, max_bytes: int, settings: Settings) -> None:
        self.memory: Final = SharedAmount(max_bytes, settings.caller_share, is_exceedable=True)
        self.places: Final = SharedAmount(settings.max_waiting_requests, settings.caller_share)
        self._settings = settings
        self._turns = Turns(self.memory)
        self._late: dict[str, float] = {}  # until when a caller is not trusted

    @property
    def max_bytes(self) -> int:
        """The maximum."""
        return self.memory.maximum

    @property
    def reserved(self) -> int:
        """The bytes that all requests hold."""
        return self.memory.taken

    @property
    def waiting(self) -> int:
        """The number of requests that wait for admission."""
        return self.places.taken

    @contextmanager
    def reserve(self, caller: str) -> Iterator["Reservation"]:
        """Yield the reservation of one request of a caller; it is released at the end of the block."""
        reservation = Reservation(self, caller)
        try:
            yield reservation
        finally:
            reservation.resize(0)

    async def wait_for(self, caller: str, n: int, disconnected: "asyncio.Future[None]") -> None:
        """Reserve n bytes as soon as they fit and the caller's earlier requests have had their turn.

        Raises:
            Unavailable: not admitted within `admission_wait_s`, or too many requests are waiting already.
            ClientDisconnect: the client disconnected while waiting.
        """
        if self._turns.take_if_free(caller, n):
            return
        if (crowd := self.places.obstacle(caller, 1)) is not None:
            self.places.refused[crowd] += 1
            raise self._refusal(caller, crowd)
        self.places.take(caller, 1)
        try:
            is_admitted = await self._turns.wait_for(caller, n, self._settings.admission_wait_s, disconnected)
        finally:
            self.places.take(caller, -1)
        if disconnected.done():
            raise ClientDisconnect
        if not is_admitted:
            obstacle = self.memory.obstacle(caller, n) or "total"
            self.memory.refused[obstacle] += 1
            raise self._refusal(caller, obstacle, has_waited=True)

    def change(self, caller: str, n: int) -> None:
        """Reserve n bytes more; if n is negative, release them, and admit requests that wait."""
        if n < 0:
            self._turns.release(caller, -n)
        else:
            self.memory.take(caller, n)

    def outgrown(self, caller: str, obstacle: Obstacle) -> Unavailable:
        """Count and return the refusal of a request that needs more than fits."""
        self.memory.refused[obstacle] += 1
        return self._refusal(caller, obstacle)

    def _refusal(self, caller: str, obstacle: Obstacle, *, has_waited: bool = False) -> Unavailable:
        """Return the refusal. Its response is delayed, unless the request has waited already."""
        if obstacle == "total":
            reason = (
                f"requests in progress hold {self.reserved:,} of {self.max_bytes:,} bytes, and {self.waiting:,} wait"
            )
        else:
            reason = (
                f"requests of this caller hold {self.memory.held_by(caller):,} of {self.max_bytes:,} bytes and "
                f"{self.places.held_by(caller):,} wait, which is its share (BRAIN_COLLECTOR_CALLER_SHARE)"
            )
        return Unavailable.send_again(
            reason,
            self._settings.retry_after_s,
            answer_after_s=0.0 if has_waited else self._settings.admission_wait_s,
        )

    def believed(self, caller: str, announced: int) -> int:
        """Return how much of an announced size counts: little, if the caller's bodies were late.

        At most half a share counts: how large the decoded body will be is a guess.
        """
        announced = min(announced, int(self._settings.caller_share * self.max_bytes / 2))
        until_s = self._late.get(caller)
        if until_s is None or asyncio.get_running_loop().time() >= until_s:
            return announced
        return min(announced, UNPROVEN_BYTES)

    def note_late(self, caller: str) -> None:
        """Note that a body did not come in time."""
        now_s = asyncio.get_running_loop().time()
        self._late.pop(caller, None)
        self._late[caller] = now_s + DISTRUST_S
        while next(iter(self._late.values())) <= now_s:
            del self._late[next(iter(self._late))]


class Reservation:
    """The part of the budget that one request holds."""

    def __init__(self, budget: Budget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self._come = 0
        self.held = 0

    async def wait_for(self, n: int, disconnected: "asyncio.Future[None]") -> None:
        """Reserve the first n bytes once they fit; `disconnected` is done when the client has disconnected.

        Raises:
            Unavailable, ClientDisconnect: see `Budget.wait_for`.
        """
        await self._budget.wait_for(self._caller, n, disconnected)
        self.held += n

    async def wait_for_announced(self, n: int, disconnected: "asyncio.Future[None]") -> None:
        """Reserve the first bytes of a body that is announced to need n.

        Raises:
            Unavailable, ClientDisconnect: see `Budget.wait_for`.
        """
        await self.wait_for(self._budget.believed(self._caller, n), disconnected)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Let announced bytes count for `PROMISE_S` while the body arrives in the block."""
        timer = asyncio.get_running_loop().call_later(PROMISE_S, self._be_late)
        try:
            yield
        finally:
            timer.cancel()

    def _be_late(self) -> None:
        self._budget.note_late(self._caller)
        self.resize(self._come)

    def come(self, n: int) -> None:
        """Hold at least the n bytes that have come.

        Raises:
            Unavailable: see `resize`.
        """
        self._come = n
        self.grow_to(n)

    def grow_to(self, n: int) -> None:
        """Hold at least n bytes.

        Raises:
            Unavailable: see `resize`.
        """
        self.resize(max(n, self.held))

    def resize(self, n: int) -> None:
        """Hold n bytes from now on.

        Raises:
            Unavailable: the budget is exceeded. A request that holds bytes never waits: others may wait for them.
        """
        more = n - self.held
        if not more:
            return
        if more > 0 and (obstacle := self._budget.memory.obstacle(self._caller, more, self.held)) is not None:
            raise self._budget.outgrown(self._caller, obstacle)
        self._budget.change(self._caller, more)
        self.held = n

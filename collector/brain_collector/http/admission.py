"""How many bytes the collector holds for requests that are not answered yet; what is too much waits, then is refused.

So a collector that is asked for more than it can do does what it can: who is admitted is finished, who is not costs
next to nothing, and nobody can make it work on refusals by asking faster.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect

from brain_collector.errors import Unavailable
from brain_collector.settings import Settings


class Budget:
    """The bytes of all bodies between their first byte and their answer: received, inflated, decoded, being written."""

    def __init__(self, settings: Settings) -> None:
        self.max_bytes = settings.max_pending_bytes
        self.held = 0
        self._settings = settings
        self._waiting: dict[asyncio.Future[None], int] = {}  # in order, with the bytes that each wants

    @property
    def waiting(self) -> int:
        """How many requests wait to be admitted."""
        return len(self._waiting)

    @contextmanager
    def share(self) -> Iterator["Reservation"]:
        """Yield what one request takes its bytes through; they are given back at the end of the block."""
        share = Reservation(self)
        try:
            yield share
        finally:
            share.resize(0)

    def fits(self, n: int, taken: int = 0) -> bool:
        """Tell whether who has `taken` may have n more. One alone always may: the limits of a body bound it."""
        return self.held == taken or self.held + n <= self.max_bytes

    async def turn(self, n: int, left: "asyncio.Future[None]") -> None:
        """Return when there is room for n bytes and it is this request's turn; the bytes are then taken.

        Raises:
            Unavailable: it was not within `admission_wait_s`, or `max_waiting_requests` wait already.
            ClientDisconnect: the client left, as `left` told.
        """
        if not self._waiting and self.fits(n):
            self.held += n
            return
        if len(self._waiting) >= self._settings.max_waiting_requests:
            raise self.too_much()
        admitted = asyncio.get_running_loop().create_future()
        self._waiting[admitted] = n
        has_turn = False
        try:
            wait_s = self._settings.admission_wait_s
            await asyncio.wait([admitted, left], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            has_turn = admitted.done() and not left.done()
        finally:
            if not has_turn:
                self._give_up(admitted, n)
        if left.done():
            raise ClientDisconnect
        if not has_turn:
            raise self.too_much(has_waited=True)

    def _give_up(self, admitted: "asyncio.Future[None]", n: int) -> None:
        """Let the next have the place; it may have been admitted in the moment in which it gave up."""
        still_waits = self._waiting.pop(admitted, None) is not None
        self.give_back(0 if still_waits else n)

    def give_back(self, n: int) -> None:
        """Admit, for n bytes that are free again, who waits for them."""
        self.held -= n
        while self._waiting:
            admitted, wanted = next(iter(self._waiting.items()))
            if not self.fits(wanted):
                return
            del self._waiting[admitted]
            self.held += wanted
            admitted.set_result(None)

    def too_much(self, *, has_waited: bool = False) -> Unavailable:
        """Return the refusal; who has not waited for it waits for its answer."""
        after_s = self._settings.retry_after_s
        return Unavailable(
            f"{self.held:,} bytes of other requests are being worked on; "
            f"send it again in {after_s} s, with the same Idempotency-Key",
            retry_after_s=after_s,
            answer_after_s=0.0 if has_waited else self._settings.admission_wait_s,
        )


class Reservation:
    """The part of the budget that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken = 0

    async def admit(self, n: int, left: "asyncio.Future[None]") -> None:
        """Take the first n bytes, once there is room for them; `left` is done when the client is gone.

        Raises:
            Unavailable, ClientDisconnect: see `Budget.turn`.
        """
        await self._budget.turn(n, left)
        self.taken += n

    def resize(self, n: int) -> None:
        """Have n bytes from now on.

        Raises:
            Unavailable: others hold too much for more. Nobody waits with bytes in hand that another may wait for.
        """
        more = n - self.taken
        if more > 0 and not self._budget.fits(more, self.taken):
            raise self._budget.too_much()
        self._budget.give_back(-more)
        self.taken = n

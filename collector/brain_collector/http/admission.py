"""A memory budget for all requests in progress: a request that exceeds it waits for its turn, then is refused.

So an overloaded collector keeps working: admitted requests are completed, a refused one costs next to nothing, and
a client gains nothing by retrying faster.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect

from brain_collector.errors import Unavailable
from brain_collector.settings import Settings


class Budget:
    """The memory of all bodies from their first byte to their response: received, inflated, decoded, being written.

    With `max_bytes` it bounds the memory of something else, such as that of answers.
    """

    def __init__(self, settings: Settings, *, max_bytes: int | None = None) -> None:
        self.max_bytes = settings.max_pending_bytes if max_bytes is None else max_bytes
        self.reserved = 0
        self._settings = settings
        self._queue: dict[asyncio.Future[None], int] = {}  # in order of arrival, with the bytes that each request needs

    @property
    def waiting(self) -> int:
        """The number of requests that wait for admission."""
        return len(self._queue)

    @contextmanager
    def reserve(self) -> Iterator["Reservation"]:
        """Yield the reservation of one request; it is released at the end of the block."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.resize(0)

    def fits(self, n: int, held: int = 0) -> bool:
        """Return whether a request that holds `held` bytes may take n more. A sole request always may."""
        return self.reserved == held or self.reserved + n <= self.max_bytes

    async def wait_for(self, n: int, disconnected: "asyncio.Future[None]") -> None:
        """Reserve n bytes as soon as they fit and every earlier request has had its turn.

        Raises:
            Unavailable: not admitted within `admission_wait_s`, or `max_waiting_requests` are waiting already.
            ClientDisconnect: the client disconnected while waiting.
        """
        if not self._queue and self.fits(n):
            self.reserved += n
            return
        if len(self._queue) >= self._settings.max_waiting_requests:
            raise self.overloaded()
        admitted = asyncio.get_running_loop().create_future()
        self._queue[admitted] = n
        is_admitted = False
        try:
            timeout_s = self._settings.admission_wait_s
            await asyncio.wait([admitted, disconnected], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            is_admitted = admitted.done() and not disconnected.done()
        finally:
            if not is_admitted:
                self._leave_queue(admitted, n)
        if disconnected.done():
            raise ClientDisconnect
        if not is_admitted:
            raise self.overloaded(has_waited=True)

    def _leave_queue(self, admitted: "asyncio.Future[None]", n: int) -> None:
        """Remove a request from the queue, or release its bytes if it was admitted at the moment it gave up."""
        was_queued = self._queue.pop(admitted, None) is not None
        self.release(0 if was_queued else n)

    def release(self, n: int) -> None:
        """Release n bytes, and admit the waiting requests that fit now."""
        self.reserved -= n
        while self._queue:
            admitted, needed = next(iter(self._queue.items()))
            if not self.fits(needed):
                return
            del self._queue[admitted]
            self.reserved += needed
            admitted.set_result(None)

    def overloaded(self, *, has_waited: bool = False) -> Unavailable:
        """Return the refusal. Its response is delayed, unless the request has waited already."""
        return Unavailable.send_again(
            f"{self.reserved:,} bytes of other requests are being processed",
            self._settings.retry_after_s,
            answer_after_s=0.0 if has_waited else self._settings.admission_wait_s,
        )


class Reservation:
    """The part of the budget that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    async def wait_for(self, n: int, disconnected: "asyncio.Future[None]") -> None:
        """Reserve the first n bytes once they fit; `disconnected` is done when the client has disconnected.

        Raises:
            Unavailable, ClientDisconnect: see `Budget.wait_for`.
        """
        await self._budget.wait_for(n, disconnected)
        self.held += n

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
        if more > 0 and not self._budget.fits(more, self.held):
            raise self._budget.overloaded()
        self._budget.release(-more)
        self.held = n

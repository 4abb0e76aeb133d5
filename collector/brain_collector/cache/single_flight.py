"""Single flight: of concurrent callers that need the same value, one computes it for all.

An error is that of all of them, unless it is about the share of the one that computes: then another one takes over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from brain_collector.errors import Unavailable


class SingleFlight:
    """Single flight without a task: the first caller fills; if it is cancelled, one of those that wait takes over."""

    def __init__(self) -> None:
        self.n_started = 0
        """The number of flights so far."""
        self._flights: dict[Hashable, tuple[int, asyncio.Future[bytes | None]]] = {}

    async def join(
        self,
        name: Hashable,
        fill: Callable[[], Awaitable[bytes]],
        keep: Callable[[bytes], Awaitable[None]],
        *,
        after: int = 0,
    ) -> bytes:
        """Return the value of `fill`, of this or another caller, ignoring the first `after` flights.

        `keep` stores the value; callers that wait get it before.
        """
        while name in self._flights:
            number, flight = self._flights[name]
            if number <= after:
                await asyncio.wait([flight])
                self._end(name, flight)
                continue
            value = await asyncio.shield(flight)
            if value is not None:
                return value
        flight = asyncio.get_running_loop().create_future()
        self.n_started += 1
        self._flights[name] = self.n_started, flight
        try:
            value = await fill()
            flight.set_result(value)  # callers that wait need not wait for `keep`
            await keep(value)
        except Exception as error:
            if not flight.done() and not (isinstance(error, Unavailable) and error.is_of_caller):
                flight.set_exception(error)
                flight.exception()  # marks it as retrieved: there may be no other caller
            raise
        else:
            return value
        finally:
            self._end(name, flight)
            if not flight.done():
                flight.set_result(None)

    def _end(self, name: Hashable, flight: asyncio.Future[bytes | None]) -> None:
        if self._flights.get(name, (0, None))[1] is flight:
            del self._flights[name]

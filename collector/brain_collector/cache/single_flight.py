"""Single flight: of concurrent requests of a caller that need the same value, one computes it for all.

Its error is the error of all of them. Callers do not share a flight: the requests of a caller that sends many wait for
its share of the database (see `shares`), and nobody else waits with them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from brain_collector.shares import current_caller


class SingleFlight:
    """Single flight without a task: the first request fills; if it is cancelled, one of those that wait takes over."""

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
        """Return the value of `fill`, of this or another request, ignoring the first `after` flights.

        `keep` stores the value; requests that wait get it before.
        """
        name = current_caller.get(), name
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
            flight.set_result(value)  # requests that wait need not wait for `keep`
            await keep(value)
        except Exception as error:
            if not flight.done():
                flight.set_exception(error)
                flight.exception()  # marks it as retrieved: there may be no other request
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

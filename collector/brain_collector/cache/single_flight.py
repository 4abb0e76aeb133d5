"""Single flight: callers who want the same at the same time; one makes it, all get it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class SingleFlight:
    """Single flight without a task: the first caller fills, and if it is cancelled one of those who wait goes on."""

    def __init__(self) -> None:
        self.started = 0
        """How many flights there were so far."""
        self._flights: dict[Hashable, tuple[int, asyncio.Future[bytes | None]]] = {}

    async def join(
        self,
        name: Hashable,
        fill: Callable[[], Awaitable[bytes]],
        keep: Callable[[bytes], Awaitable[None]],
        *,
        after: int = 0,
    ) -> bytes:
        """Return what `fill` makes, of this caller or another; not what one made that was among the first `after`."""
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
        self.started += 1
        self._flights[name] = self.started, flight
        try:
            value = await fill()
            flight.set_result(value)  # those who wait need not wait for `keep`
            await keep(value)
        except Exception as error:
            if not flight.done():
                flight.set_exception(error)
                flight.exception()  # there may be nobody to see it
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

"""Single flight: callers who want the same at the same time; one makes it, all get it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class SingleFlight:
    """Single flight without a task: the first caller fills, and if it is cancelled one of those who wait goes on."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Future[bytes | None]] = {}

    async def join(
        self, name: Hashable, fill: Callable[[], Awaitable[bytes]], keep: Callable[[bytes], Awaitable[None]]
    ) -> bytes:
        while (flight := self._flights.get(name)) is not None:
            value = await asyncio.shield(flight)
            if value is not None:
                return value
        flight = self._flights[name] = asyncio.get_running_loop().create_future()
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
            del self._flights[name]
            if not flight.done():
                flight.set_result(None)

"""One computes a value for all, and what happens to the others if it fails."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from brain_collector.cache.single_flight import SingleFlight
from brain_collector.errors import Unavailable
from brain_collector.shares import current_caller

pytestmark = pytest.mark.anyio


async def outcomes(*callers: str) -> list[bytes | BaseException]:
    """Let the first request fail while the others wait for its value, or compute one."""
    flights, may_fail = SingleFlight(), asyncio.Event()

    async def failing() -> bytes:
        await may_fail.wait()
        raise Unavailable("no room", retry_after_s=1)

    async def working() -> bytes:
        return b"value"

    async def keep(_value: bytes) -> None: ...

    async def join(caller: str, fill: Callable[[], Awaitable[bytes]]) -> bytes:
        current_caller.set(caller)
        return await flights.join("name", fill, keep)

    fills = [failing, *[working] * (len(callers) - 1)]
    tasks = [asyncio.create_task(join(caller, fill)) for caller, fill in zip(callers, fills, strict=True)]
    await asyncio.sleep(0)
    may_fail.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_error_is_that_of_all_requests_of_a_caller_that_wait() -> None:
    error, same = await outcomes("a", "a")
    assert isinstance(error, Unavailable)
    assert error is same


async def test_no_caller_waits_for_the_requests_of_another_one() -> None:
    error, value = await outcomes("a", "b")
    assert isinstance(error, Unavailable)
    assert value == b"value"

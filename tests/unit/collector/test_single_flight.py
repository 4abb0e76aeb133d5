"""One computes a value for all, and what happens to the others if it fails."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from brain_collector.cache.single_flight import SingleFlight
from brain_collector.errors import Unavailable

pytestmark = pytest.mark.anyio


def refusal(*, is_of_caller: bool) -> Unavailable:
    error = Unavailable("no room", retry_after_s=1)
    error.is_of_caller = is_of_caller
    return error


async def outcomes(error: Unavailable) -> list[bytes | BaseException]:
    """Let one caller fail while another one waits for its value, which could compute it itself."""
    flights, may_fail = SingleFlight(), asyncio.Event()

    async def failing() -> bytes:
        await may_fail.wait()
        raise error

    async def working() -> bytes:
        return b"value"

    async def keep(_value: bytes) -> None: ...

    def joining(fill: Callable[[], Awaitable[bytes]]) -> "asyncio.Task[bytes]":
        return asyncio.create_task(flights.join("name", fill, keep))

    tasks = [joining(failing), joining(working)]
    await asyncio.sleep(0)
    may_fail.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_share_of_one_caller_refuses_no_other() -> None:
    error = refusal(is_of_caller=True)
    assert await outcomes(error) == [error, b"value"]


async def test_another_error_is_that_of_all() -> None:
    error = refusal(is_of_caller=False)
    assert await outcomes(error) == [error, error]

"""Admission: which requests are admitted, in which order, and how the others are refused."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from brain_collector.errors import Unavailable
from brain_collector.http.admission import Budget, Reservation
from brain_collector.settings import Settings

pytestmark = pytest.mark.anyio


def a_budget(*, max_waiting_requests: int = 10, admission_wait_s: float = 5.0) -> Budget:
    return Budget(
        Settings(max_pending_bytes=100, max_waiting_requests=max_waiting_requests, admission_wait_s=admission_wait_s)
    )


def staying() -> "asyncio.Future[None]":
    """Return the `disconnected` of a client that does not disconnect."""
    return asyncio.get_running_loop().create_future()


async def begun(
    reservation: Reservation, n: int, disconnected: "asyncio.Future[None] | None" = None
) -> "asyncio.Task[None]":
    """Return the task of a request that has begun to wait for n bytes."""
    task = asyncio.create_task(reservation.wait_for(n, disconnected or staying()))
    await settled()
    return task


async def settled() -> None:
    """Run every task that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_request_that_does_not_fit_waits_and_is_admitted_in_turn() -> None:
    budget = a_budget()
    with budget.reserve() as first:
        await first.wait_for(80, staying())
        with budget.reserve() as big, budget.reserve() as small:
            big_one, small_one = await begun(big, 30), await begun(small, 10)
            assert (big_one.done(), small_one.done()) == (
                False,
                False,
            )  # it would fit, but does not overtake
            assert (budget.reserved, budget.waiting) == (80, 2)
            first.resize(65)
            await settled()
            assert (big_one.done(), small_one.done()) == (True, False)
            first.resize(0)
            await settled()
            assert small_one.done()
            assert (budget.reserved, budget.waiting) == (40, 0)
    assert budget.reserved == 0


async def test_a_sole_request_may_exceed_the_budget() -> None:
    budget = a_budget()
    with budget.reserve() as only:
        await only.wait_for(1_000, staying())
        only.resize(2_000)
        assert budget.reserved == 2_000


async def test_a_request_that_waited_too_long_is_refused_and_the_next_has_its_turn() -> None:
    budget = a_budget(admission_wait_s=0.05)
    with budget.reserve() as first, budget.reserve() as second, budget.reserve() as third:
        await first.wait_for(80, staying())
        with pytest.raises(Unavailable, match="80 bytes of other requests") as refused:
            await second.wait_for(30, staying())
        assert refused.value.answer_after_s == 0.0
        assert budget.waiting == 0
        await third.wait_for(20, staying())
        assert (second.held, third.held, budget.reserved) == (0, 20, 100)


async def test_a_cancelled_request_gives_its_turn_to_the_next() -> None:
    budget = a_budget()
    with budget.reserve() as first, budget.reserve() as second, budget.reserve() as third:
        await first.wait_for(80, staying())
        big_one, small_one = await begun(second, 30), await begun(third, 20)
        big_one.cancel()
        await settled()
        assert (big_one.cancelled(), small_one.done(), budget.reserved) == (True, True, 100)


async def test_a_request_that_is_cancelled_when_it_is_admitted_releases_its_bytes() -> None:
    budget = a_budget()
    with budget.reserve() as first, budget.reserve() as second, budget.reserve() as third:
        await first.wait_for(100, staying())
        waiting, next_one = await begun(second, 100), await begun(third, 100)
        first.resize(0)  # admits the second, which has not run since
        waiting.cancel()
        await settled()
        assert (waiting.cancelled(), next_one.done(), budget.reserved) == (True, True, 100)
    assert budget.reserved == 0


async def test_a_client_that_disconnects_loses_its_place_wherever_it_is_in_the_queue() -> None:
    budget = a_budget(max_waiting_requests=3)
    with budget.reserve() as first, budget.reserve() as second, budget.reserve() as third, budget.reserve() as fourth:
        await first.wait_for(100, staying())
        disconnects = [staying(), staying(), staying()]
        waiting = [
            await begun(reservation, 100, disconnected)
            for reservation, disconnected in zip((second, third, fourth), disconnects, strict=True)
        ]
        disconnects[1].set_result(None)
        await settled()
        assert budget.waiting == 2
        with pytest.raises(ClientDisconnect):
            await waiting[1]
        disconnects[0].set_result(None)
        first.resize(0)  # admits the second, whose client has disconnected by then
        await settled()
        with pytest.raises(ClientDisconnect):
            await waiting[0]
        assert waiting[2].done()
        assert (fourth.held, budget.reserved, budget.waiting) == (100, 100, 0)
    assert budget.reserved == 0


async def test_beyond_the_maximum_of_waiting_requests_the_refusal_is_delayed() -> None:
    budget = a_budget(max_waiting_requests=1)
    with budget.reserve() as first, budget.reserve() as second, budget.reserve() as third:
        await first.wait_for(100, staying())
        waiting = await begun(second, 1)
        with pytest.raises(Unavailable) as refused:
            await third.wait_for(1, staying())
        assert refused.value.answer_after_s == 5.0
        waiting.cancel()


async def test_a_request_that_holds_bytes_does_not_wait_for_more() -> None:
    budget = a_budget()
    with budget.reserve() as first, budget.reserve() as second:
        await first.wait_for(60, staying())
        await second.wait_for(30, staying())
        with pytest.raises(Unavailable) as refused:
            second.resize(41)
        assert refused.value.answer_after_s == 5.0  # its bytes are released by then
        assert (second.held, budget.reserved) == (30, 90)
        second.resize(40)
        assert budget.reserved == 100

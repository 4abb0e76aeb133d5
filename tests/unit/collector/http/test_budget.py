"""Admission: which requests are admitted, in which order, and how the others are refused."""

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from brain_collector.errors import Unavailable
from brain_collector.http.admission import UNPROVEN_BYTES, Budget, Reservation
from brain_collector.settings import Settings
from brain_collector.shares import OPEN_CALLER
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def a_budget(max_bytes: int = 100, *, max_waiting_requests: int = 10, admission_wait_s: float = 5.0) -> Budget:
    return Budget(max_bytes, Settings(max_waiting_requests=max_waiting_requests, admission_wait_s=admission_wait_s))


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
    with budget.reserve(OPEN_CALLER) as first:
        await first.wait_for(80, staying())
        with budget.reserve(OPEN_CALLER) as big, budget.reserve(OPEN_CALLER) as small:
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
    with budget.reserve(OPEN_CALLER) as only:
        await only.wait_for(1_000, staying())
        only.resize(2_000)
        assert budget.reserved == 2_000


async def test_a_request_that_waited_too_long_is_refused_and_the_next_has_its_turn() -> None:
    budget = a_budget(admission_wait_s=0.05)
    with (
        budget.reserve(OPEN_CALLER) as first,
        budget.reserve(OPEN_CALLER) as second,
        budget.reserve(OPEN_CALLER) as third,
    ):
        await first.wait_for(80, staying())
        with pytest.raises(Unavailable, match="hold 80 of 100 bytes") as refused:
            await second.wait_for(30, staying())
        assert refused.value.answer_after_s == 0.0
        assert budget.waiting == 0
        await third.wait_for(20, staying())
        assert (second.held, third.held, budget.reserved) == (0, 20, 100)


async def test_a_cancelled_request_gives_its_turn_to_the_next() -> None:
    budget = a_budget()
    with (
        budget.reserve(OPEN_CALLER) as first,
        budget.reserve(OPEN_CALLER) as second,
        budget.reserve(OPEN_CALLER) as third,
    ):
        await first.wait_for(80, staying())
        big_one, small_one = await begun(second, 30), await begun(third, 20)
        big_one.cancel()
        await settled()
        assert (big_one.cancelled(), small_one.done(), budget.reserved) == (True, True, 100)


async def test_a_request_that_is_cancelled_when_it_is_admitted_releases_its_bytes() -> None:
    budget = a_budget()
    with (
        budget.reserve(OPEN_CALLER) as first,
        budget.reserve(OPEN_CALLER) as second,
        budget.reserve(OPEN_CALLER) as third,
    ):
        await first.wait_for(100, staying())
        waiting, next_one = await begun(second, 100), await begun(third, 100)
        first.resize(0)  # admits the second, which has not run since
        waiting.cancel()
        await settled()
        assert (waiting.cancelled(), next_one.done(), budget.reserved) == (True, True, 100)
    assert budget.reserved == 0


async def test_a_client_that_disconnects_loses_its_place_wherever_it_is_in_the_queue() -> None:
    budget = a_budget(max_waiting_requests=3)
    with (
        budget.reserve(OPEN_CALLER) as first,
        budget.reserve(OPEN_CALLER) as second,
        budget.reserve(OPEN_CALLER) as third,
        budget.reserve(OPEN_CALLER) as fourth,
    ):
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
    with (
        budget.reserve(OPEN_CALLER) as first,
        budget.reserve(OPEN_CALLER) as second,
        budget.reserve(OPEN_CALLER) as third,
    ):
        await first.wait_for(100, staying())
        waiting = await begun(second, 1)
        with pytest.raises(Unavailable) as refused:
            await third.wait_for(1, staying())
        assert refused.value.answer_after_s == 5.0
        waiting.cancel()


async def test_a_request_that_holds_bytes_does_not_wait_for_more() -> None:
    budget = a_budget()
    with budget.reserve(OPEN_CALLER) as first, budget.reserve(OPEN_CALLER) as second:
        await first.wait_for(60, staying())
        await second.wait_for(30, staying())
        with pytest.raises(Unavailable) as refused:
            second.resize(41)
        assert refused.value.answer_after_s == 5.0  # its bytes are released by then
        assert (second.held, budget.reserved) == (30, 90)
        second.resize(40)
        assert budget.reserved == 100


# -- callers


async def test_a_caller_leaves_as_much_free_as_it_holds() -> None:
    budget = a_budget(max_waiting_requests=4)
    with ExitStack() as stack:

        def of(caller: str) -> Reservation:
            return stack.enter_context(budget.reserve(caller))

        for _ in range(5):
            await of("greedy").wait_for(10, staying())
        held_back = await begun(of("greedy"), 1)
        assert (held_back.done(), budget.reserved) == (False, 50)
        await of("second").wait_for(24, staying())
        await of("third").wait_for(12, staying())
        assert (held_back.done(), budget.reserved) == (False, 86)
        held_back.cancel()


async def test_the_only_request_of_a_caller_may_take_all_that_is_left() -> None:
    budget = a_budget()
    with budget.reserve("one") as small, budget.reserve("two") as large:
        await small.wait_for(10, staying())
        await large.wait_for(50, staying())
        large.resize(90)
        with pytest.raises(Unavailable):
            large.resize(91)
        assert budget.reserved == 100


async def test_callers_that_wait_are_admitted_in_turn() -> None:
    budget = a_budget()
    with ExitStack() as stack:
        first = stack.enter_context(budget.reserve(OPEN_CALLER))
        await first.wait_for(100, staying())
        order: list[str] = []

        async def one(caller: str) -> None:
            with budget.reserve(caller) as reservation:
                await reservation.wait_for(10, staying())
                order.append(caller)

        callers = ["a", "a", "a", "b", "c", "b"]
        tasks = [asyncio.create_task(one(caller)) for caller in callers]
        await settled()
        first.resize(0)
        await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "a", "b", "a"]


async def test_a_caller_whose_requests_wait_leaves_places_to_others() -> None:
    budget = a_budget(max_waiting_requests=4)
    with ExitStack() as stack:

        def of(caller: str) -> Reservation:
            return stack.enter_context(budget.reserve(caller))

        await of(OPEN_CALLER).wait_for(100, staying())
        waiting = [await begun(of("greedy"), 1), await begun(of("greedy"), 1)]
        with pytest.raises(Unavailable, match="BRAIN_COLLECTOR_CALLER_SHARE"):
            await of("greedy").wait_for(1, staying())
        waiting.append(await begun(of("other"), 1))
        assert budget.waiting == 3
        assert (budget.places.refused, budget.memory.refused) == ({"caller": 1}, {})
        for task in waiting:
            task.cancel()


# -- bodies on their way


async def test_announced_bytes_count_for_a_moment_and_then_those_that_have_come() -> None:
    budget = a_budget(10**6)
    with budget.reserve("slow") as slow, budget.reserve("slow") as next_one, budget.reserve("other") as other:
        await slow.wait_for_announced(40, staying())
        assert slow.held == 40
        with slow.arriving():
            slow.come(3)

            async def is_late() -> bool:
                return slow.held == 3

            await eventually(is_late, "the announced size no longer counts")
        assert budget.believed("slow", 10**6) == UNPROVEN_BYTES
        assert budget.believed("other", 10**6) == 250_000  # half of a share
        await next_one.wait_for_announced(40, staying())
        await other.wait_for_announced(40, staying())
        assert budget.reserved == 83


async def test_a_body_that_comes_in_time_is_believed_again() -> None:
    budget = a_budget(10**6)
    with budget.reserve("quick") as quick:
        await quick.wait_for_announced(40, staying())
        with quick.arriving():
            quick.come(40)
        assert budget.believed("quick", 200_000) == 200_000


# -- laws

CALLERS = st.sampled_from(["a", "b"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), CALLERS, st.integers(1, 60)),
        st.tuples(st.just("resize"), st.integers(0, 30), st.integers(0, 60)),
        st.tuples(st.just("end"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 30), st.just(0)),
    ),
    max_size=40,
)


class Crowd:
    """Requests of any kind in one budget, as a model: each holds, waits, or has ended."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.requests: list[tuple[Reservation, asyncio.Task[None], asyncio.Future[None]]] = []

    async def begin(self, caller: str, n: int) -> None:
        reservation, disconnected = Reservation(self.budget, caller), staying()
        self.requests.append((reservation, await begun(reservation, n, disconnected), disconnected))

    async def step(self, kind: str, index: int, n: int) -> None:
        if not self.requests:
            return
        reservation, task, disconnected = self.requests[index % len(self.requests)]
        if kind == "leave" and not disconnected.done():
            disconnected.set_result(None)
        if task.done():
            if kind == "end":
                reservation.resize(0)
            if kind == "resize" and reservation.held:
                before = reservation.held
                try:
                    reservation.resize(n)
                except Unavailable:
                    assert reservation.held == before
        await settled()

    def check(self) -> None:
        holders = [reservation for reservation, _, _ in self.requests if reservation.held]
        assert self.budget.reserved == sum(reservation.held for reservation in holders)
        assert self.budget.reserved <= self.budget.max_bytes or len(holders) == 1
        assert self.budget.waiting == sum(not task.done() for _, task, _ in self.requests)

    async def end(self) -> None:
        """End every request that holds something, until nobody waits."""
        for _ in self.requests:
            for reservation, task, _ in self.requests:
                if task.done():
                    reservation.resize(0)
            await settled()
        outcomes = await asyncio.gather(*(task for _, task, _ in self.requests), return_exceptions=True)
        assert [each for each in outcomes if isinstance(each, BaseException)] == [
            each for each in outcomes if isinstance(each, ClientDisconnect | Unavailable)
        ]


@given(STEPS)
def test_the_budget_holds_whatever_requests_do_and_nobody_waits_for_ever(steps: list[tuple[str, object, int]]) -> None:
    async def run() -> None:
        crowd = Crowd(a_budget(max_waiting_requests=20, admission_wait_s=5.0))
        for kind, which, n in steps:
            if kind == "begin":
                await crowd.begin(str(which), n)
            else:
                assert isinstance(which, int)
                await crowd.step(kind, which, n)
            crowd.check()
        await crowd.end()
        assert (crowd.budget.reserved, crowd.budget.waiting) == (0, 0)

    asyncio.run(run())


@given(STEPS)
def test_a_newcomer_is_served_at_once_whatever_two_others_do(steps: list[tuple[str, object, int]]) -> None:
    async def run() -> None:
        budget = a_budget(1_000, max_waiting_requests=20)
        crowd = Crowd(budget)
        for kind, which, n in steps:
            if kind == "begin":
                await crowd.begin(str(which), n)
            else:
                assert isinstance(which, int)
                await crowd.step(kind, which, n)
            with budget.reserve("newcomer") as newcomer:
                await newcomer.wait_for(100, staying())
                assert newcomer.held == 100
        await crowd.end()

    asyncio.run(run())

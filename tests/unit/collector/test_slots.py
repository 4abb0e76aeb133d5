"""Slots: how many concurrent exports, streams or reads one caller and all callers may have."""

import asyncio
from contextlib import ExitStack

import pytest

from brain_collector.errors import Unavailable
from brain_collector.settings import Settings
from brain_collector.shares import OPEN_CALLER, Slots
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio


def four(caller_share: float = 0.5) -> Slots:
    return Slots("exports", "max_exports", Settings(max_exports=4, caller_share=caller_share))


def test_a_caller_has_half_of_what_the_others_leave_and_each_may_have_one_as_long_as_there_are_any() -> None:
    slots = four()
    with ExitStack() as stack:
        stack.enter_context(slots.one("greedy"))
        stack.enter_context(slots.one("greedy"))
        with pytest.raises(Unavailable, match=r"has 2 of 4 concurrent exports, .*BRAIN_COLLECTOR_CALLER_SHARE"):
            stack.enter_context(slots.one("greedy"))
        stack.enter_context(slots.one("second"))
        stack.enter_context(slots.one("third"))
        with pytest.raises(Unavailable, match=r"the maximum of 4 .*BRAIN_COLLECTOR_MAX_EXPORTS") as refused:
            stack.enter_context(slots.one("fourth"))
        assert refused.value.headers["Retry-After"] == "2"
        assert slots.amount.refused == {"caller": 1, "total": 1}
    with slots.one("greedy"):
        assert slots.amount.taken == 1


@pytest.mark.parametrize(("caller", "share"), [(OPEN_CALLER, 0.5), ("any", 1.0)])
def test_where_callers_cannot_be_told_apart_or_need_no_limit_one_may_have_all(caller: str, share: float) -> None:
    slots = four(share)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(slots.one(caller))
        with pytest.raises(Unavailable, match="the maximum of 4"):
            slots.refuse_if_full(caller)


def test_a_maximum_of_none_refuses_everybody() -> None:
    with pytest.raises(Unavailable):
        Slots("streams", "max_streams", Settings(max_streams=0)).refuse_if_full("any")


async def test_requests_that_wait_get_their_slots_in_turn_one_of_each_caller() -> None:
    slots, order, may_end = four(caller_share=1.0), list[str](), asyncio.Event()

    async def hold(caller: str) -> None:
        async with slots.one_in_turn(caller, PATIENCE_S):
            order.append(caller)
            await may_end.wait()

    tasks = [asyncio.create_task(hold(caller)) for caller in [*["greedy"] * 7, "other"]]
    await asyncio.sleep(0)
    assert order == ["greedy"] * 4
    may_end.set()
    await asyncio.gather(*tasks)

    assert order[4:] == ["greedy", "other", "greedy", "greedy"]
    assert slots.amount.taken == 0


async def test_a_request_whose_turn_does_not_come_in_time_is_refused() -> None:
    slots = four()
    with slots.one("greedy"), slots.one("greedy"):
        with pytest.raises(Unavailable, match=r"has 2 of 4 .*which is its share"):
            async with slots.one_in_turn("greedy", 0.01):
                pass
        async with slots.one_in_turn("other", 0.01):
            assert slots.amount.taken == 3
    assert slots.amount.refused == {"caller": 1}

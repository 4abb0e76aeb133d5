"""Signals that come while a client closes: each reaches the application's handler, once, as without us."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from brain_events._delivery.interrupts import Interrupts

FIRST, SECOND = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (FIRST, SECOND)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def come(number: int) -> None:
    os.kill(os.getpid(), number)


async def _handled_by_a_loop() -> list[str]:
    seen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(FIRST, seen.append, "once")
    with Interrupts():
        come(FIRST)
    await asyncio.sleep(0)
    loop.add_signal_handler(SECOND, seen.append, "end")
    come(SECOND)  # read from the same socket: what is before it has been seen
    while "end" not in seen:
        await asyncio.sleep(0)
    return seen


def test_an_event_loop_sees_a_signal_once_that_came_during_a_close() -> None:
    assert asyncio.run(_handled_by_a_loop()) == ["once", "end"]


def test_a_handler_that_raises_does_not_lose_the_signal_behind_it() -> None:
    seen: list[int] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    signal.signal(FIRST, leave)
    signal.signal(SECOND, lambda number, _frame: seen.append(number))
    with pytest.raises(KeyboardInterrupt), Interrupts():
        come(FIRST)
        come(SECOND)
    assert seen == [SECOND]


def test_a_handler_that_had_to_wait_gets_a_frame() -> None:
    frames: list[FrameType | None] = []
    signal.signal(FIRST, lambda _number, frame: frames.append(frame))
    with Interrupts() as interrupts:
        come(FIRST)
        with interrupts.allowed():
            come(FIRST)
        come(FIRST)
    assert len(frames) == 3
    assert None not in frames


def test_a_handler_that_was_installed_meanwhile_may_call_the_one_before_it() -> None:
    seen: list[str] = []
    before: list[Any] = []

    def first(_number: int, _frame: FrameType | None) -> None:
        seen.append("first")
        if not before:
            before.append(signal.signal(FIRST, second))

    def second(number: int, frame: FrameType | None) -> None:
        seen.append("second")
        before[0](number, frame)

    signal.signal(FIRST, first)
    with Interrupts() as interrupts, interrupts.allowed():
        come(FIRST)
    come(FIRST)
    assert seen == ["first", "second", "first"]


def test_two_closes_that_do_not_end_in_order_leave_a_handler_that_works() -> None:
    """As in two greenlets, which share the main thread."""
    seen: list[int] = []
    signal.signal(FIRST, lambda number, _frame: seen.append(number))
    one, other = Interrupts(), Interrupts()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    come(FIRST)
    assert seen == [FIRST]

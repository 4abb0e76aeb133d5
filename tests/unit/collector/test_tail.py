"""What waits for one who listens: bounded, in order, and never lost without a word."""

from datetime import UTC, datetime, timedelta

import pytest

from brain_collector.arrival import Arrival, Span
from brain_collector.filter import Filter
from brain_collector.tail import Frame, Listener

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def frame(number: int, size: int) -> tuple[Frame, Span]:
    span = Span(1, NOON + timedelta(hours=number), NOON + timedelta(hours=number + 1))
    return Frame(Arrival(number, 0), b"x" * size), span


async def taken(listener: Listener) -> list[Frame]:
    found = []
    while (one := await listener.next(0)) is not None:
        found.append(one)
    return found


async def test_frames_come_in_order() -> None:
    listener = Listener(Filter(), max_bytes=100)
    for number in range(3):
        listener.put(*frame(number, 30))
    assert [each.place.xid for each in await taken(listener)] == [0, 1, 2]
    assert await listener.next(0) is None


async def test_too_much_becomes_one_gap_over_all_that_waited() -> None:
    listener = Listener(Filter(), max_bytes=100)
    for number in range(4):
        listener.put(*frame(number, 30))
    (gap,) = await taken(listener)
    assert gap == Frame(Arrival(3, 0), b"", Span(4, NOON, NOON + timedelta(hours=4)))


async def test_a_gap_grows_and_ends_when_the_client_reads_again() -> None:
    listener = Listener(Filter(), max_bytes=100)
    for number in range(9):
        listener.put(*frame(number, 60))
    frames = await taken(listener)
    assert sum(each.gap.arrived if each.gap else 1 for each in frames) == 9
    assert [each.place.xid for each in frames] == sorted(each.place.xid for each in frames)
    listener.put(*frame(9, 60))
    assert [each.gap for each in await taken(listener)] == [None]


async def test_gaps_do_not_pile_up() -> None:
    listener = Listener(Filter(), max_bytes=100)
    for number in range(1_000):
        span = frame(number, 0)[1]
        listener.put(Frame(Arrival(number, 0), b"", span), span)
    (gap,) = await taken(listener)
    assert gap.gap is not None
    assert gap.gap.arrived == 1_000


async def test_one_frame_is_taken_whatever_its_size() -> None:
    listener = Listener(Filter(), max_bytes=100)
    listener.put(*frame(0, 1_000))
    assert [len(each.events) for each in await taken(listener)] == [1_000]

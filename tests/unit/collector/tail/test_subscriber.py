"""The queue of a subscriber: bounded, in order, and never without a gap where events are missing."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from brain_collector.query.filter import Filter
from brain_collector.schema import Event
from brain_collector.tail.commit_order import Piece, Span
from brain_collector.tail.portions import Portion
from brain_collector.tail.position import Position
from brain_collector.tail.subscriber import PART_BYTES, Frame, Part, Subscriber, frame_of

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def frame(number: int, size: int) -> tuple[Frame, Span]:
    span = Span(1, NOON + timedelta(hours=number), NOON + timedelta(hours=number + 1))
    return Frame(Position(1, number, 0), (Part(Position(1, number, 0), b"x" * size),)), span


def event(id: int, size: int) -> Event:
    return Event(id, "t", "info", "x" * size, msgspec.Raw(b"null"), "s", NOON, NOON)


def test_events_are_cut_into_parts_that_a_stream_can_resume_after() -> None:
    pieces = [Piece(1, 7, 11, 30, NOON, NOON), Piece(1, 8, 1, 9, NOON, NOON)]  # ids need not ascend
    sizes = {id: 2**20 if id in {12, 13} else 10_000 for id in (*range(11, 29), *range(1, 8))}
    frame = frame_of(Portion([event(id, size) for id, size in sizes.items()], pieces))
    ids = [[each["id"] for each in msgspec.json.decode(part.events)] for part in frame.parts]
    assert [id for part in ids for id in part] == list(sizes)
    assert [part.position.id for part in frame.parts] == [*(part[-1] for part in ids[:-1]), 9]
    assert [part.position.xid for part in frame.parts] == [7 if part[-1] > 9 else 8 for part in ids]
    assert [12] in ids
    assert [13] in ids
    assert all(
        len(part.events) < PART_BYTES + 1_000 for part in frame.parts if len(msgspec.json.decode(part.events)) > 1
    )
    assert frame.position == Position(1, 8, 9)


async def taken(subscriber: Subscriber) -> list[Frame]:
    frames = []
    while (each := await subscriber.next(0)) is not None:
        frames.append(each)
    return frames


async def test_frames_come_in_order() -> None:
    subscriber = Subscriber(Filter(), max_bytes=100)
    for number in range(3):
        subscriber.put(*frame(number, 30))
    assert [each.position.xid for each in await taken(subscriber)] == [0, 1, 2]
    assert await subscriber.next(0) is None


async def test_too_much_becomes_one_gap_over_all_that_waited() -> None:
    subscriber = Subscriber(Filter(), max_bytes=100)
    for number in range(4):
        subscriber.put(*frame(number, 30))
    (gap,) = await taken(subscriber)
    assert gap == Frame(Position(1, 3, 0), (), Span(4, NOON, NOON + timedelta(hours=4)))


async def test_a_gap_grows_and_ends_when_the_client_reads_again() -> None:
    subscriber = Subscriber(Filter(), max_bytes=100)
    for number in range(9):
        subscriber.put(*frame(number, 60))
    frames = await taken(subscriber)
    assert sum(each.gap.arrived if each.gap else 1 for each in frames) == 9
    assert [each.position.xid for each in frames] == sorted(each.position.xid for each in frames)
    subscriber.put(*frame(9, 60))
    assert [each.gap for each in await taken(subscriber)] == [None]


async def test_gaps_do_not_pile_up() -> None:
    subscriber = Subscriber(Filter(), max_bytes=100)
    for number in range(1_000):
        span = frame(number, 0)[1]
        subscriber.put(Frame(Position(1, number, 0), (), span), span)
    (gap,) = await taken(subscriber)
    assert gap.gap is not None
    assert gap.gap.arrived == 1_000


async def test_a_frame_that_exceeds_the_queue_by_itself_becomes_a_gap() -> None:
    subscriber = Subscriber(Filter(), max_bytes=100)
    large, span = frame(0, 101)
    subscriber.put(large, span)
    assert await taken(subscriber) == [Frame(large.position, gap=span)]

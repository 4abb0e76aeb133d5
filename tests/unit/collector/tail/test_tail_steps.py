"""How much of the tail is read at once, bounded in events, bytes and time, and which filter is next."""

from datetime import UTC, datetime

from brain_collector.query.filter import Filter
from brain_collector.tail.arrivals import Arrivals
from brain_collector.tail.catch_up import STEP_IDS, first
from brain_collector.tail.commit_order import Piece
from brain_collector.tail.groups import STEP_BYTES, STEP_S, Group, Turns, paced
from brain_collector.tail.position import Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PIECES = [Piece(1, 7, 11, 20, NOON, NOON), Piece(1, 8, 1, 5, NOON, NOON), Piece(1, 9, 50, 50, NOON, NOON)]
EVENTS = [(piece.xid, id) for piece in PIECES for id in range(piece.first_id, piece.last_id + 1)]
START = Position(1, 0, 0)


def test_what_is_read_in_steps_of_any_size_is_everything_once() -> None:
    for most in range(1, 20):
        arrivals, position, read = Arrivals(), START, list[tuple[int, int]]()
        arrivals.add(PIECES[:1])
        arrivals.add(PIECES[1:])
        while left := arrivals.after(position):
            step = first(left, most)
            assert sum(piece.n for piece in step) == min(most, sum(piece.n for piece in left))
            read += [(piece.xid, id) for piece in step for id in range(piece.first_id, piece.last_id + 1)]
            position = step[-1].end
            arrivals.forget(position)
        assert read == EVENTS
        assert arrivals.n == 0


def test_what_is_after_a_position_is_kept_whatever_is_forgotten_before_it() -> None:
    for n_read, (xid, id) in enumerate(EVENTS, start=1):
        arrivals = Arrivals()
        arrivals.add(PIECES)
        arrivals.forget(Position(1, xid, id))
        left = arrivals.after(Position(1, xid, id))
        assert [(piece.xid, id) for piece in left for id in range(piece.first_id, piece.last_id + 1)] == EVENTS[n_read:]


def test_large_events_are_read_a_few_at_once_and_small_ones_soon_many() -> None:
    assert paced(STEP_IDS, 16, 16 * 200_000, 0.0) == STEP_BYTES // 200_000
    assert paced(STEP_IDS, 16, 16 * STEP_BYTES, 0.0) == 1
    assert paced(STEP_IDS, 16, 16 * 2 * STEP_BYTES, 0.0) == 1
    steps = [1]
    while steps[-1] < STEP_IDS:
        steps.append(paced(steps[-1], 16, 16 * 200, 0.0))
    assert len(steps) == 12
    assert paced(STEP_IDS, 16, 0, 0.0) == STEP_IDS


def test_a_filter_that_takes_long_is_read_for_a_few_events_at_once_also_if_none_matches() -> None:
    assert paced(STEP_IDS, STEP_IDS, 0, 4 * STEP_S) == STEP_IDS // 4
    assert paced(STEP_IDS, STEP_IDS, 0, STEP_S) == STEP_IDS
    assert paced(100, 100, 0, 1_000 * STEP_S) == 1


def shares(turns: Turns, seconds: dict[Group, float], until_s: float) -> dict[Group, float]:
    """Return how long was read for each group if all have something to read until some time."""
    taken = dict.fromkeys(seconds, 0.0)
    while sum(taken.values()) < until_s:
        group = turns.next(seconds)
        assert group is not None
        turns.charge(group, seconds[group])
        taken[group] += seconds[group]
    return taken


def test_time_is_shared_evenly_and_a_cheap_filter_waits_for_one_step_of_an_expensive_one_only() -> None:
    turns, cheap, expensive = Turns(), Group(Filter(), START), [Group(Filter(), START) for _ in range(9)]
    shared = shares(turns, {cheap: 0.01} | dict.fromkeys(expensive, 0.5), until_s=100.0)
    assert min(shared.values()) > 9.0
    for _ in range(20):
        group = turns.next([*expensive])  # the cheap one has nothing to read meanwhile
        assert group is not None
        turns.charge(group, 0.5)
    assert turns.next([*expensive, cheap]) is cheap
    shared = shares(turns, {cheap: 0.5} | dict.fromkeys(expensive, 0.5), until_s=100.0)
    assert max(shared.values()) < 11.0  # it gains nothing by having waited


def test_without_a_group_nobody_is_next() -> None:
    assert Turns().next([]) is None

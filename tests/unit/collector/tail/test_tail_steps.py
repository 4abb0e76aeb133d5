"""How much of the tail is read at once: bounded in events, and in bytes going by those before."""

from datetime import UTC, datetime

from brain_collector.tail.catch_up import STEP_IDS, first
from brain_collector.tail.commit_order import Piece
from brain_collector.tail.reader import STEP_BYTES, after, paced

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PIECES = [Piece(1, 7, 11, 20, NOON, NOON), Piece(1, 8, 1, 5, NOON, NOON), Piece(1, 9, 50, 50, NOON, NOON)]


def test_what_is_read_in_steps_of_any_size_is_everything_once() -> None:
    for most in range(1, 20):
        left, read = PIECES, list[tuple[int, int]]()
        while left:
            step = first(left, most)
            assert sum(piece.n for piece in step) == min(most, sum(piece.n for piece in left))
            read += [(piece.xid, id) for piece in step for id in range(piece.first_id, piece.last_id + 1)]
            left = after(step[-1].end, left)
        assert read == [(piece.xid, id) for piece in PIECES for id in range(piece.first_id, piece.last_id + 1)]


def test_large_events_are_read_a_few_at_once_and_small_ones_soon_many() -> None:
    assert paced(STEP_IDS, PIECES, 16 * 200_000) == STEP_BYTES // 200_000
    assert paced(STEP_IDS, PIECES, 16 * STEP_BYTES) == 1
    assert paced(STEP_IDS, PIECES, 16 * 2 * STEP_BYTES) == 1
    steps = [1]
    while steps[-1] < STEP_IDS:
        steps.append(paced(steps[-1], PIECES, 16 * 200))
    assert len(steps) == 12
    assert paced(STEP_IDS, PIECES, 0) == STEP_IDS

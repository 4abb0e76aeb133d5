"""Where a stream resumes: a pure decision."""

from datetime import UTC, datetime, timedelta

import pytest

from brain_collector.errors import ParameterInvalid
from brain_collector.storage.epochs import MARGIN, Epoch
from brain_collector.tail.position import MAX_ID, Position, parse
from brain_collector.tail.resumption import EARLIEST, Missing, Resumption, resume

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AFTER_NOON = NOON + timedelta(microseconds=1)
LIMIT, START = Position(30, 900, MAX_ID), Position(30, 890, 5)


def epoch(number: int, first_xid: int, *, keeps_order: bool = True, forgotten: tuple[int, int] = (0, 0)) -> Epoch:
    at = NOON + timedelta(minutes=number)
    return Epoch(number, first_xid, keeps_order, at, *forgotten, NOON if any(forgotten) else None)


EPOCHS = [epoch(10, 0), epoch(20, 500), epoch(30, 800)]
EVERYTHING = Resumption(START, Missing(EARLIEST))


def resumed(*position: int, epochs: list[Epoch] | None = None) -> Resumption:
    return resume(Position(*position), epochs or EPOCHS, LIMIT, otherwise=START)


def test_a_position_of_the_current_epoch_is_valid_up_to_the_limit() -> None:
    assert resumed(30, 900, 7) == Resumption(Position(30, 900, 7))
    assert resumed(30, 901, 0) == EVERYTHING


def test_a_position_below_the_first_transaction_of_all_later_epochs_keeps_its_place() -> None:
    assert resumed(10, 499, 7) == Resumption(Position(30, 499, 7))
    assert resumed(20, 799, 7) == Resumption(Position(30, 799, 7))


def test_a_position_beyond_the_start_of_a_later_epoch_goes_back_to_it_with_a_gap() -> None:
    at_20, at_30 = (NOON + timedelta(minutes=number) for number in (20, 30))
    assert resumed(10, 500, 0) == Resumption(Position(30, 499, MAX_ID), Missing(at_20 - MARGIN, at_20))
    assert resumed(20, 10**9, 0) == Resumption(Position(30, 799, MAX_ID), Missing(at_30 - MARGIN, at_30))
    behind = [*EPOCHS[:2], epoch(30, 400)]
    assert resumed(10, 600, 0, epochs=behind) == Resumption(Position(30, 399, MAX_ID), Missing(at_20 - MARGIN, at_30))


def test_a_position_of_an_epoch_that_does_not_exist_is_unknown() -> None:
    for number in (0, 15, 31):
        assert resumed(number, 1, 1) == EVERYTHING


def test_no_position_is_valid_after_batches_were_renumbered() -> None:
    renumbered = [*EPOCHS[:2], epoch(30, 800, keeps_order=False)]
    assert resumed(20, 1, 1, epochs=renumbered) == EVERYTHING
    assert resumed(30, 850, 1, epochs=renumbered) == Resumption(Position(30, 850, 1))


def test_a_position_before_forgotten_batches_resumes_after_them_with_a_gap() -> None:
    forgetful = [*EPOCHS[:2], epoch(30, 800, forgotten=(300, 9))]
    for position in ((10, 299, 1), (30, 300, 8)):
        assert resumed(*position, epochs=forgetful) == Resumption(Position(30, 300, 9), Missing(EARLIEST, AFTER_NOON))
    assert resumed(30, 300, 9, epochs=forgetful) == Resumption(Position(30, 300, 9))


def test_a_token_is_a_position_with_or_without_an_epoch() -> None:
    for position in (Position(0, 5, 6), Position(1_700_000_000_000, 5, 6)):
        assert parse(str(position)) == position
    assert parse("5-6") == Position(0, 5, 6)
    with pytest.raises(ParameterInvalid):
        parse(f"1-1-{2**63}")


def test_batches_that_were_forgotten_as_a_later_epoch_began_are_known_from_the_earlier_one() -> None:
    forgetful = [EPOCHS[0], epoch(20, 500, forgotten=(600, 9)), epoch(30, 800, forgotten=(300, 9))]
    assert resumed(20, 599, 0, epochs=forgetful) == Resumption(Position(30, 600, 9), Missing(EARLIEST, AFTER_NOON))

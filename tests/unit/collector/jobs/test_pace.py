"""The size of the steps of a job, with an event that no step may contain."""

import pytest

from brain_collector.jobs.pace import LEAST, Pace

LONG_S = 0.25


def test_steps_shrink_while_they_are_long_and_grow_while_there_is_more() -> None:
    pace = Pace(small=2, most=16, long_s=LONG_S)
    sizes = []
    for spent_s in (1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1):
        pace.done(spent_s, is_more=True)
        sizes.append(pace.size)

    assert sizes == [8, 4, 2, 2, 4, 8, 16, 16]


def test_on_a_slow_machine_steps_become_larger_again_after_a_failure() -> None:
    pace = Pace(small=16, most=2_048, long_s=LONG_S)
    pace.failed()
    pace.failed()
    for _ in range(100):
        pace.done(1.0, is_more=True)

    assert pace.size == 16


def test_a_job_rests_as_long_as_a_step_took_while_there_is_more() -> None:
    pace = Pace(small=1, most=8, long_s=LONG_S)
    pace.done(0.2, is_more=True)
    assert pace.rest_s(2.0) == 0.2
    pace.done(0.2, is_more=False)
    assert pace.rest_s(2.0) == 2.0
    pace.failed()
    assert pace.rest_s(2.0) == 2.0


@pytest.mark.parametrize("poison", [0, 1, 77, 1_000, 2_047, 5_000])
def test_an_event_that_fails_every_step_is_reached_alone_after_few_failures(poison: int) -> None:
    pace = Pace(small=16, most=2_048, long_s=LONG_S)
    at = failures = 0
    while at <= poison:
        if at <= poison < at + pace.size:
            if pace.size == LEAST:
                break
            pace.failed()
            failures += 1
        else:
            at += pace.size
            pace.done(0.01, is_more=True)

    assert at == poison
    assert failures <= 3

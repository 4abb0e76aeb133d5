"""Jobs that fail: each change is logged once, each failure is counted."""

import asyncio
import logging

import asyncpg
import pytest

from brain_collector.health.job_states import JobStates
from brain_collector.jobs.loop import every_run
from brain_collector.metrics import Metrics

pytestmark = pytest.mark.anyio

FAILURES = 'brain_collector_job_failures_total{job_name="index"}'


class Failing:
    """A job that fails with the given errors in turn, then works, then ends the loop."""

    name = "index"

    def __init__(self, errors: list[Exception], stop: asyncio.Event) -> None:
        self._errors = errors
        self._stop = stop

    def interval_s(self) -> float:
        """No rest."""
        return 0.0

    async def run(self) -> None:
        """Raise the next error, if there is one left."""
        if self._errors:
            raise self._errors.pop(0)
        self._stop.set()


async def run(errors: list[Exception]) -> tuple[JobStates, str]:
    metrics, stop = Metrics(), asyncio.Event()
    states = JobStates(metrics)
    await every_run(Failing(errors, stop), states, stop)
    return states, metrics.text([]).decode()


async def test_a_job_that_times_out_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    error = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
    with caplog.at_level(logging.WARNING):
        states, text = await run([error, error, error])

    assert [record.message for record in caplog.records] == [
        "the job 'index' fails and will be tried again: canceling statement due to statement timeout",
        "the job 'index' works again, after 3 failures: canceling statement due to statement timeout",
    ]
    assert f"{FAILURES} 3.0" in text
    assert states.failing == []


async def test_a_job_that_fails_is_named_with_its_reason() -> None:
    states = JobStates(Metrics())
    states.failed("index", "first")
    states.failed("index", "second")

    (failing,) = states.failing
    assert (failing.name, failing.failures, failing.reason) == ("index", 2, "second")


async def test_a_lost_database_is_left_to_the_monitor(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, text = await run([ConnectionRefusedError(), asyncpg.CannotConnectNowError("starting up")])

    assert caplog.records == []
    assert FAILURES not in text

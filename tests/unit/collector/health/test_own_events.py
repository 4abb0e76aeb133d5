"""Own events that cannot be stored: an unexpected error costs them, which is counted, and later ones are stored."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from brain_collector.health.own_events import OwnEvents
from brain_collector.ingest.submission import Stored, Submission
from brain_collector.metrics import Metrics

pytestmark = pytest.mark.anyio


async def test_an_unexpected_error_costs_its_events_and_not_the_task(caplog: pytest.LogCaptureFixture) -> None:
    own_events = OwnEvents(interval_s=1.0, retry_s=0.01, metrics=Metrics())
    stored: list[str] = []

    async def submit(submission: Submission) -> Stored:
        if "engine_restarted" in submission.rows.types:
            raise AssertionError("nobody expected this")
        stored.extend(submission.rows.types)
        now = datetime.now(UTC)
        return Stored(1, now, answer=None, is_duplicate=False, is_same_body=False, earliest=now, rejected={})

    running = asyncio.create_task(own_events.run(submit))
    own_events.log("engine_restarted", "warning", "this one fails")
    while own_events.waiting:
        await asyncio.sleep(0)
    own_events.log("cache_back", "info", "this one is stored")
    while own_events.waiting:
        await asyncio.sleep(0)
    own_events.close()
    await running

    assert stored == ["cache_back", "events_dropped"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "1 own events were dropped after an unexpected error"
    assert record.exc_info

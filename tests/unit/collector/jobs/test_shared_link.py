"""The connection that short jobs share: once it is aborted, none of them begins anything."""

import asyncio

import pytest

from brain_collector.jobs.shared_link import SharedLink
from brain_collector.settings import Settings
from brain_collector.storage.connection import Overdue

pytestmark = pytest.mark.anyio


def a_link() -> SharedLink:
    return SharedLink(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))


async def test_after_an_abort_no_use_begins() -> None:
    link = a_link()
    link.abort()

    with pytest.raises(Overdue):
        async with link.use():
            raise AssertionError("it connected")


async def test_a_job_that_waits_for_its_turn_ends_with_the_abort() -> None:
    link = a_link()
    async with link._lock:
        waiting = asyncio.create_task(link.use().__aenter__())
        await asyncio.sleep(0)
        link.abort()

    with pytest.raises(Overdue):
        await waiting

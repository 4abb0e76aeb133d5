"""The reads of one caller leave database connections to the other callers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.access.test_keys import KEY, bearer, made
from tests.integration.tail.test_stream import listening
from tests.support.collector import connected, create
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

N_CONNECTIONS = 4


@asynccontextmanager
async def greedy_caller(client: httpx.AsyncClient, dsn: str, path: str) -> AsyncIterator[None]:
    """Let statistics of one caller hang during the block, more than there are connections; and a path behind them."""
    paths = [f"/api/events/stats?event_type=t{n}" for n in range(3 * N_CONNECTIONS)] + [path]
    greedy = bearer((await made(client, "read"))["key"])
    tasks: list[asyncio.Task[Any]] = []
    async with connected(dsn) as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE")

        async def get(path: str) -> int:
            return (await client.get(path, headers=greedy)).status_code

        tasks += [asyncio.create_task(get(path)) for path in paths]

        async def all_have_arrived() -> bool:
            arrived = sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())
            n_hanging = await blocker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return arrived >= len(paths) and n_hanging >= N_CONNECTIONS // 2

        await eventually(all_have_arrived, "the requests hang")
        yield
        assert not any(task.done() for task in tasks)
    assert await asyncio.gather(*tasks) == [200] * len(paths)


async def test_one_caller_cannot_take_all_connections_for_reads(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY, read_connections=N_CONNECTIONS, lock_deadline_s=60.0) as client:
        client.headers.update(bearer((await made(client, "read", "ingest"))["key"]))
        one = f"/api/events/{(await create(client))['id']}"
        async with greedy_caller(client, settings.dsn, one):
            for path in ("/api/events?source=other", one):
                answer = await client.get(path)
                assert answer.status_code == 200, answer.text
            async with listening(client) as stream:
                await stream.until_ready()

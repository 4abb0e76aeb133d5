"""A hundred simultaneous misses of one value: one query, and after a write no value from before it.

Over HTTP with the cache in the process; test_cache holds the same of Redis, which here, with a hundred clients in the
collector's loop, would at times be given up on.
"""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import create, sql, started
from tests.support.proxy import Fate, Proxy, proxied
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

READERS = 100
BOUND_S = 120.0
MARK = "no-event-has-this-type"
TODAY = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
URL = f"/api/events?event_type=wanted&event_type={MARK}&from={TODAY}"
"""Of the last day: one query."""


class Gate:
    """A rule that counts the queries that bear the mark, and holds each of the first `held` until it is opened."""

    def __init__(self, held: int = 1) -> None:
        self.queries = 0
        self.held = held
        self.opened = threading.Event()

    async def is_holding(self) -> bool:
        """Whether the first query has arrived here. It may come on a connection that is yet to be opened."""
        return self.queries > 0

    def __call__(self, chunk: bytes) -> Fate:
        if MARK.encode() in chunk:
            self.queries += 1
            if self.queries <= self.held:
                self.opened.wait(BOUND_S)
        return Fate.PASS


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy to the test's database."""
    with proxied(database_url) as found:
        yield found


@pytest.fixture
def gate(proxy: Proxy) -> Iterator[Gate]:
    gate = Gate()
    proxy.rule = gate
    yield gate
    gate.opened.set()


async def messages(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get(URL)
    assert answer.status_code == 200, answer.text
    return [found["message"] for found in answer.json()]


def many(client: httpx.AsyncClient) -> "list[asyncio.Task[list[str]]]":
    return [asyncio.create_task(messages(client)) for _ in range(READERS)]


async def own_writes(dsn: str) -> int:
    """Return how many events of its own the collector has stored since its start: each of them ends cached lists."""
    ((written,),) = await sql(dsn, "SELECT count(*) FROM system_events WHERE source = 'collector'")
    return int(written) - 1


async def at_work(n: int) -> None:
    """Return when the collector, which runs in this loop, is at n requests."""

    async def are() -> bool:
        return sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks()) >= n

    await eventually(are, f"{n} requests are being answered")


def clients_of(client: httpx.AsyncClient) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=3 * READERS)
    return httpx.AsyncClient(base_url=client.base_url, timeout=BOUND_S, limits=limits)


async def test_a_hundred_misses_at_once_are_one_query(
    settings: Settings, serve: Serve, proxy: Proxy, gate: Gate
) -> None:
    async with (
        serve(settings, database_url=proxy.url, redis_url="none", read_deadline_s=BOUND_S) as client,
        clients_of(client) as crowd,
    ):
        await started(settings.dsn)
        await create(client, event_type="wanted", message="one")
        reading = many(crowd)
        await at_work(READERS)
        gate.opened.set()

        assert await asyncio.gather(*reading) == [["one"]] * READERS
        assert gate.queries - 1 <= await own_writes(settings.dsn)
        assert await messages(crowd) == ["one"]
        assert gate.queries - 1 <= await own_writes(settings.dsn)


async def test_who_asks_after_a_write_never_gets_what_was_begun_before_it(
    settings: Settings, serve: Serve, proxy: Proxy, gate: Gate
) -> None:
    async with (
        serve(settings, database_url=proxy.url, redis_url="none", read_deadline_s=BOUND_S) as client,
        clients_of(client) as crowd,
    ):
        await started(settings.dsn)
        await create(client, event_type="wanted", message="one")
        early = many(crowd)
        await at_work(READERS)
        await eventually(gate.is_holding, "the first query is held")
        await create(client, event_type="wanted", message="two")  # acknowledged, while the first query is held
        late = many(crowd)

        assert await asyncio.gather(*late) == [["two", "one"]] * READERS
        gate.opened.set()
        assert {tuple(found) for found in await asyncio.gather(*early)} <= {("one",), ("two", "one")}
        assert gate.queries - 2 <= await own_writes(settings.dsn)
        assert await messages(crowd) == ["two", "one"]
        assert gate.queries - 2 <= await own_writes(settings.dsn)

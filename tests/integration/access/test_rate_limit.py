"""Rate limits: exact, shared by collectors, applied without Redis too, and lossless for the SDK."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis.asyncio

from brain_collector.access.rate_limit import RateLimit
from brain_collector.cache import RedisCache
from brain_collector.errors import RateLimited
from brain_collector.metrics import Metrics
from brain_collector.settings import Settings
from brain_events.client import Client
from brain_events.config import Config
from brain_events.wire import BATCH_PATH, NDJSON
from tests.conftest import Serve
from tests.support.collector import count_foreign, event, ndjson, post_batch
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

FIVE = {"max_events_per_s": 0.01, "burst_s": 500.0}
"""A burst of five, and a rate so low that no token returns during a test."""
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture(autouse=True)
async def _fresh(settings: Settings) -> AsyncIterator[None]:
    """Database numbers of Redis come round again: what another test left there counts."""
    own = redis.asyncio.Redis.from_url(str(settings.redis_url))
    await own.flushdb()
    yield
    await own.aclose()


async def post_events(client: httpx.AsyncClient, n: int = 1) -> httpx.Response:
    return await post_batch(client, ndjson(*[event()] * n))


async def test_without_a_limit_nothing_is_limited_or_said(collector: httpx.AsyncClient) -> None:
    answers = [await post_events(collector, 100) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}
    assert not any("RateLimit" in answer.headers or "RateLimit-Policy" in answer.headers for answer in answers)


@pytest.mark.parametrize("redis_url", [None, "none", NOWHERE])
async def test_what_is_over_the_limit_is_refused_and_told_when_to_come_again(
    settings: Settings, serve: Serve, redis_url: str | None
) -> None:
    async with serve(settings, **FIVE, redis_url=redis_url or settings.redis_url) as client:
        singles = [await client.post("/api/events", json=event()) for _ in range(4)]
        batch = await post_events(client)
        refused = [await post_events(client), await client.post("/api/events", json=event())]

    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in [*singles, batch]] == [
        f'"events";r={left}' for left in (4, 3, 2, 1, 0)
    ]
    assert batch.headers["RateLimit-Policy"] == '"events";q=5;w=500'
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.json()["detail"].startswith("this API key exceeded its rate limit of 0.01 events a second; ")
        assert 0 < int(answer.headers["Retry-After"]) <= 100
        assert answer.headers["RateLimit-Policy"] == '"events";q=5;w=500'
        assert answer.headers["RateLimit"].startswith('"events";r=0;t=')
    assert await count_foreign(settings.dsn) == 5


async def test_bytes_are_limited_as_they_are_after_gzip(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_bytes_per_s=10, burst_s=1_000.0) as client:
        first = await post_batch(client, ndjson(event(message="x" * 20_000)))
        second = await post_events(client)

    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["RateLimit-Policy"] == '"bytes";q=10000;qu="content-bytes";w=1000'
    assert 1_000 < int(second.headers["Retry-After"]) <= 1_100


async def test_a_batch_of_any_size_passes_once_and_is_paid_for_later(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FIVE) as client:
        large = await post_events(client, 105)
        refused = await post_events(client)

    assert (large.status_code, refused.status_code) == (200, 429)
    assert 10_000 <= int(refused.headers["Retry-After"]) <= 10_100


async def test_who_has_nothing_left_is_refused_before_the_body_is_read(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FIVE) as client:
        await post_events(client, 5)
        reading, sending = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST {BATCH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\nContent-Length: 10\r\n\r\n"
        sending.write(head.encode())

        assert await reading.readline() == b"HTTP/1.1 429 Too Many Requests\r\n"
        sending.transport.abort()


async def test_collectors_share_a_limit_through_redis(settings: Settings) -> None:
    limited = msgspec.structs.replace(settings, **FIVE)
    caches = [patient(settings, "shared"), patient(settings, "shared")]
    one, other = (RateLimit(limited, cache.evaluate) for cache in caches)
    passed = [(await outcome(quota, "a", {"n_events": 1, "n_bytes": 1}))[0] for quota in (one, other) * 4]

    assert passed == [True] * 5 + [False] * 3
    for cache in caches:
        await cache.close()


def patient(settings: Settings, database_id: str, more: str = "") -> RedisCache:
    """Return a cache that does not take a slow machine for a lost Redis."""
    cache = RedisCache(f"{settings.redis_url}{more}", Metrics(), patience_s=30)
    cache.use_database(database_id)
    return cache


async def test_callers_do_not_share_a_limit(settings: Settings) -> None:
    cache = patient(settings, "callers")
    for evaluate in (cache.evaluate, nothing):
        quota = RateLimit(msgspec.structs.replace(settings, **FIVE), evaluate)
        await quota.take("key:a", n_events=5, n_bytes=1)
        with pytest.raises(RateLimited):
            quota.refuse_early("key:a")
        quota.refuse_early("key:b")
        await quota.take("key:b", n_events=5, n_bytes=1)
    await cache.close()


async def nothing(*_: Any) -> None:
    """Answer as a Redis that is away."""


async def test_redis_and_the_collector_count_alike(settings: Settings) -> None:
    slow = msgspec.structs.replace(settings, max_events_per_s=0.001, max_bytes_per_s=0.01, burst_s=100_000.0)
    cache = patient(settings, "alike")
    draw = random.Random(7)
    for caller in map(str, range(20)):
        quotas = RateLimit(slow, cache.evaluate), RateLimit(slow, nothing)
        for _ in range(20):
            cost = {"n_events": draw.randint(0, 30), "n_bytes": draw.choice([0, 1, 50, 300])}
            one, other = [await outcome(quota, caller, cost) for quota in quotas]
            assert one == other
    await cache.close()


async def outcome(quota: RateLimit, caller: str, cost: dict[str, int]) -> tuple[bool, str]:
    """Return whether it passed, and what is left, without the times."""
    try:
        headers = await quota.take(caller, **cost)
    except RateLimited as error:
        return False, error.headers["RateLimit-Policy"]
    return True, ", ".join(part.partition(";t=")[0] for part in headers["RateLimit"].split(", "))


async def test_tokens_come_back(settings: Settings) -> None:
    cache = patient(settings, "back")
    fast = msgspec.structs.replace(settings, max_events_per_s=1_000.0, burst_s=0.01)
    for evaluate in (cache.evaluate, nothing):
        quota = RateLimit(fast, evaluate)
        await quota.take("a", n_events=100, n_bytes=0)
        while True:
            try:
                quota.refuse_early("a")
                headers = await quota.take("a", n_events=0, n_bytes=0)
            except RateLimited:
                await asyncio.sleep(0.01)
            else:
                break
        assert headers["RateLimit-Policy"] == '"events";q=10;w=1'
    await cache.close()


async def test_a_value_of_another_kind_in_redis_is_replaced(settings: Settings) -> None:
    own = redis.asyncio.Redis.from_url(str(settings.redis_url))
    cache = patient(settings, "kind")
    await own.set("brain:kind:quota:a", "nonsense")
    quota = RateLimit(msgspec.structs.replace(settings, **FIVE), cache.evaluate)

    assert (await quota.take("a", n_events=1, n_bytes=1))["RateLimit"].startswith('"events";r=4')
    assert await own.type("brain:kind:quota:a") == b"hash"
    assert cache.state == "up"
    await cache.close()
    await own.aclose()


async def test_a_redis_that_runs_no_scripts_is_a_cache_all_the_same(settings: Settings, engines: SuiteEngines) -> None:
    own = redis.asyncio.Redis.from_url(engines.redis_url)
    await own.acl_setuser("scriptless", enabled=True, passwords=["+word"], keys=["*"], commands=["+@all", "-eval"])
    cache = patient(settings, "scriptless", "&username=scriptless&password=word")
    quota = RateLimit(msgspec.structs.replace(settings, **FIVE), cache.evaluate)

    assert (await quota.take("a", n_events=5, n_bytes=1))["RateLimit"].startswith('"events";r=0')
    with pytest.raises(RateLimited):
        await quota.take("a", n_events=1, n_bytes=1)
    assert cache.state == "up"
    await cache.close()
    await own.acl_deluser("scriptless")
    await own.aclose()


async def test_the_sdk_loses_nothing_to_a_limit(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    async with serve(settings, max_events_per_s=1_000, burst_s=1.0) as collector:
        await post_events(collector, 6_000)  # five seconds on credit
        assert (await post_events(collector)).status_code == 429
        client = Client(
            Config(request_timeout_s=60, url=str(collector.base_url), spool_dir=str(tmp_path), interval_s=0.01)
        )
        for n in range(3_000):
            client.log("limited", "info", str(n))
        assert await asyncio.to_thread(client.flush, PATIENCE_S)
        assert await asyncio.to_thread(client.close)

        stats = client.stats()
        assert (stats.delivered, stats.rejected, stats.dropped) == (3_000, 0, {})
    assert await count_foreign(settings.dsn) == 9_000

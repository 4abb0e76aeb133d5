"""Lists, searches and exports of large events: pages end early, and a walk along the links still meets every event."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.api.operation import Operation
from brain_collector.server.app import OPERATIONS
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.api.test_metrics import value
from tests.integration.http.test_limits import socket_to
from tests.support.collector import create, event, ndjson, outcome, post_batch, transport_of
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PAGE_BYTES = 20_000
ANSWER_BYTES = 16 * 2**20
BOUNDED_OTHERWISE = {"/metrics", "/api/keys", "/api/session", "/api/events/stream", "/api/events/ws"}
"""Paths whose responses have bounds of their own, such as the number of API keys or the bytes of a stream."""
READS = [each for each in OPERATIONS if each.method == "GET" and each.scope and each.path not in BOUNDED_OTHERWISE]
Stuck = tuple[httpx.AsyncClient, asyncio.StreamReader, asyncio.StreamWriter]


async def store(client: httpx.AsyncClient, n: int) -> None:
    """Store events of 1 to 30,000 bytes, three of each moment, over several days."""
    draw = random.Random(4)
    events = [
        event(
            message=f"number {number}",
            severity=draw.choice(["info", "error", "critical"]),
            details={"text": "a needle " + "x" * draw.choice([1, 1_000, 9_000, 30_000])},
            timestamp=(NOON + timedelta(hours=5 * (number // 3))).isoformat(),
        )
        for number in range(n)
    ]
    for start in range(0, n, 40):
        answer = await post_batch(client, ndjson(*events[start : start + 40]))
        assert answer.json()["rejected"] == 0


def unmarked(events: list[Any]) -> list[Any]:
    """Return the events without their matches, whose number is bounded by page."""
    return [{name: value for name, value in each.items() if not name.startswith("matches")} for each in events]


async def walk(client: httpx.AsyncClient, **parameters: Any) -> tuple[list[Any], list[bytes]]:
    """Return the events of all pages, and the pages."""
    events, pages = [], []
    answer = await client.get("/api/events", params={"event_type": "test", **parameters})
    while True:
        assert answer.status_code == 200, answer.text
        events += answer.json()
        pages.append(answer.content)
        if "next" not in answer.links:
            return events, pages
        answer = await client.get(answer.links["next"]["url"])


async def test_a_walk_meets_every_event_once_however_early_its_pages_end(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client, serve(settings, max_page_bytes=PAGE_BYTES, redis_url="none") as small:
        await store(client, 120)
        for parameters in ({}, {"q": "needle"}, {"severity_min": "error"}, {"q": "needle -none", "limit": 7}):
            whole, _ = await walk(client, limit=1000, **{k: v for k, v in parameters.items() if k != "limit"})
            events, pages = await walk(small, **{"limit": 1000, **parameters})
            assert unmarked(events) == unmarked(whole), parameters
            assert len(pages) > 10
            assert all(len(page) <= PAGE_BYTES or len(msgspec.json.decode(page)) == 1 for page in pages)


async def test_an_offset_page_is_bounded_too(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client, serve(settings, max_page_bytes=PAGE_BYTES, redis_url="none") as small:
        await store(client, 60)
        whole, _ = await walk(client, limit=1000)
        events, pages = await walk(small, limit=1000, offset=10)
        assert events == whole[10:]
        assert len(pages) > 3


async def test_a_page_counts_what_escapes_and_matches_add(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_page_bytes=PAGE_BYTES) as client:
        for n in range(6):
            await create(client, message="\x01" * 3_000, details={"k" * 200: ["needle"] * 60, "n": n})
        for parameters in ({}, {"q": "needle"}):
            events, pages = await walk(client, **parameters)
            assert len(events) == 6
            assert all(len(page) <= PAGE_BYTES or len(msgspec.json.decode(page)) == 1 for page in pages)


async def test_an_event_with_more_matches_than_are_listed_says_so_and_can_be_sent_back(
    collector: httpx.AsyncClient,
) -> None:
    await create(collector, details={"a": ["needle " * 50] * 3})
    (found,) = (await collector.get("/api/events", params={"q": "needle"})).json()
    assert (len(found["matches"]), found["matches_cut"]) == (100, True)
    answer = await collector.put(f"/api/events/{found['id']}", json=found)
    assert answer.status_code == 200, answer.text


async def test_a_search_with_too_many_terms_is_refused(collector: httpx.AsyncClient) -> None:
    many = " ".join(f"w{n}" for n in range(17))
    answer = await collector.get("/api/events", params={"q": many})
    assert outcome(answer) == (422, "parameter_invalid")
    assert "at most 16" in answer.json()["detail"]
    assert (await collector.get("/api/events", params={"q": "same " * 50})).status_code == 200


async def test_groups_of_several_terms_find_what_they_say(collector: httpx.AsyncClient) -> None:
    for message in ("red apple", "red", "green pear", "pear", "blue"):
        await create(collector, message=message)
    events, _ = await walk(collector, q="red apple or green pear or blue")
    assert {each["message"] for each in events} == {"red apple", "green pear", "blue"}


async def test_an_export_reads_large_events_in_bounded_parts(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        await store(client, 120)
        whole, _ = await walk(client, limit=1000)
        answer = await client.get("/api/events/export", params={"event_type": "test"})
        assert [msgspec.json.decode(line) for line in answer.content.splitlines()] == whole


async def test_a_page_of_rejected_lines_is_bounded(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_page_bytes=PAGE_BYTES) as client:
        lines = [b"\x01" * size + b"\n" for size in (9, 900, 2_000, 5_000, 9) * 4]
        await post_batch(client, b"".join(lines))

        async def kept() -> bool:
            return len(await rejections(client)) == len(lines)

        await eventually(kept, "the lines are kept")
        numbers = [line["id"] for line in await rejections(client)]
        assert numbers == sorted(set(numbers), reverse=True)


async def rejections(client: httpx.AsyncClient) -> list[Any]:
    """Return the rejected lines of all pages, each of which must be bounded."""
    lines, path = [], "/api/rejections?limit=1000"
    while path:
        answer = await client.get(path)
        assert len(answer.content) <= PAGE_BYTES or len(answer.json()) == 1
        lines += answer.json()
        path = answer.links.get("next", {}).get("url", "")
    return lines


@asynccontextmanager
async def reader_that_does_not_read(settings: Settings, serve: Serve, wait_s: float) -> AsyncIterator[Stuck]:
    """Yield a client of a collector whose memory for answers is held by another client, and that client."""
    bounds = {"max_page_bytes": ANSWER_BYTES, "max_answer_bytes": 2**20, "admission_wait_s": wait_s}
    async with serve(settings, **bounds) as client, socket_to(client) as (reading, sending):
        for _ in range(4):
            await post_batch(client, ndjson(*(event(details={"a": "x" * 200_000}) for _ in range(20))))
        transport_of(sending).pause_reading()
        sending.write(b"GET /api/events?event_type=test HTTP/1.1\r\nHost: localhost\r\n\r\n")

        async def is_held() -> bool:
            return 0 < await value(client, "answer_bytes") <= ANSWER_BYTES

        await eventually(is_held, "the answer is made and not read")
        yield client, reading, sending


async def test_a_read_is_refused_while_others_do_not_read_their_answers(settings: Settings, serve: Serve) -> None:
    async with reader_that_does_not_read(settings, serve, 0.1) as (client, _, sending):
        refused = await client.get("/api/events")
        assert outcome(refused) == (503, "unavailable")
        assert refused.headers["retry-after"]
        assert (await client.get("/readyz")).status_code == 200
        await create(client)  # ingest has a budget of its own
        sending.transport.abort()

        async def is_released() -> bool:
            return await value(client, "answer_bytes") == 0

        await eventually(is_released, "what was held is released")
        assert (await client.get("/api/events")).status_code == 200


@pytest.mark.parametrize("operation", READS, ids=lambda operation: operation.path)
async def test_every_read_reserves_memory_for_its_answer(
    settings: Settings, serve: Serve, operation: Operation
) -> None:
    async with reader_that_does_not_read(settings, serve, 0.1) as (client, _, _):
        refused = await client.get(operation.path.replace("{id}", "1"))
        assert outcome(refused) == (503, "unavailable")


async def test_a_read_waits_until_another_client_has_read_its_answer(settings: Settings, serve: Serve) -> None:
    async with reader_that_does_not_read(settings, serve, PATIENCE_S) as (client, reading, sending):
        waiting = asyncio.create_task(client.get("/api/events", params={"limit": 2}))

        async def waits() -> bool:
            return await value(client, "waiting_reads") == 1

        await eventually(waits, "a read waits")
        transport_of(sending).resume_reading()
        while not (await reading.read(2**20)).endswith(b"}]"):
            pass
        assert (await waiting).status_code == 200

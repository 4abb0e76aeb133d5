"""Conditional requests: equal events have equal ETags, a known one gets 304, a change of another state gets 412."""

import asyncio
from typing import Any

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, create, outcome, sql

pytestmark = pytest.mark.anyio


async def created(client: httpx.AsyncClient, **fields: Any) -> tuple[str, str]:
    """Create an event; return its path and its ETag."""
    url = f"/api/events/{(await create(client, **fields))['id']}"
    return url, await tag_of(client, url)


async def tag_of(client: httpx.AsyncClient, url: str) -> str:
    answer = await client.get(url)
    assert answer.status_code == 200
    return str(answer.headers["etag"])


async def test_the_tag_is_the_same_as_long_as_the_event_is(collector: httpx.AsyncClient, settings: Settings) -> None:
    url, tag = await created(collector, details={"b": 1, "a": [1.50, None]})
    cached = await tag_of(collector, url)
    await collector.put(url, json={"message": "other"})
    changed = await tag_of(collector, url)
    await collector.put(url, json={"message": "m"})

    assert cached == tag == await tag_of(collector, url) != changed
    assert tag.startswith('"')
    _, other = await created(collector, details={"b": 1, "a": [1.50, None]})
    assert other != tag  # another event


async def test_two_collectors_give_the_same_tag(settings: Settings, collector: httpx.AsyncClient, serve: Serve) -> None:
    url, tag = await created(collector)
    async with serve(settings, redis_url="none") as other:
        assert await tag_of(other, url) == tag


async def test_who_has_the_event_gets_no_body(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    for given in (tag, f"W/{tag}", f'"x", {tag}', f'W/"a,b" ,, {tag},', "*"):
        answer = await collector.get(url, headers={"If-None-Match": given})

        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag), given
        assert answer.headers["cache-control"] == "private, no-cache"
        assert "content-type" not in answer.headers


async def test_lines_of_if_none_match_are_one_list(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    answer = await collector.get(url, headers=[("If-None-Match", '"x"'), ("If-None-Match", tag)])

    assert answer.status_code == 304


async def test_who_has_another_event_or_says_nonsense_gets_the_event(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    for given in ('"x"', tag.strip('"'), f"{tag} {tag}", f"{tag}x", f"w/{tag}", '"', "", f"*, {tag}", "W/*"):
        answer = await collector.get(url, headers={"If-None-Match": given})

        assert (answer.status_code, answer.headers["etag"]) == (200, tag), given


async def test_a_missing_event_is_not_found_whatever_the_client_has(collector: httpx.AsyncClient) -> None:
    assert outcome(await collector.get("/api/events/999999", headers={"If-None-Match": "*"})) == (
        404,
        "event_not_found",
    )
    for method in ("PUT", "DELETE"):
        answer = await collector.request(method, "/api/events/999999", json={}, headers={"If-Match": "*"})
        assert outcome(answer) == (404, "event_not_found")


async def test_head_says_what_get_says_without_the_body(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    got = await collector.get(url)
    head = await collector.head(url)
    known = await collector.head(url, headers={"If-None-Match": tag})

    differing = {"date", "x-request-id"}
    assert (head.status_code, head.content) == (200, b"")
    assert {n: v for n, v in head.headers.items() if n not in differing} == {
        n: v for n, v in got.headers.items() if n not in differing
    }
    assert (known.status_code, known.headers["etag"]) == (304, tag)


async def test_only_a_single_event_may_be_kept_by_a_client_and_by_no_cache_between(
    collector: httpx.AsyncClient,
) -> None:
    url, _ = await created(collector)
    kept = {
        path: (await collector.get(path)).headers["cache-control"] for path in (url, "/api/events", "/api/events/stats")
    }
    refused = await collector.get("/api/events/999999")

    assert kept == {url: "private, no-cache", "/api/events": "no-store", "/api/events/stats": "no-store"}
    assert refused.headers["cache-control"] == "no-store"


# -- changes


async def test_a_change_of_the_state_that_was_read_is_made(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    answer = await collector.put(url, json={"message": "one"}, headers={"If-Match": f'"x", {tag}'})
    assert (answer.status_code, answer.json()["message"]) == (200, "one")
    assert (await collector.put(url, json={"message": "two"}, headers={"If-Match": "*"})).status_code == 200
    deleted = await collector.delete(url, headers={"If-Match": await tag_of(collector, url)})
    assert deleted.status_code == 204


async def test_a_change_of_another_state_changes_nothing(collector: httpx.AsyncClient) -> None:
    url, old = await created(collector)
    await collector.put(url, json={"message": "by another"})
    new = await tag_of(collector, url)
    counts = (await collector.get("/api/events/stats")).json()
    for given in (old, f"W/{new}", new.strip('"'), "", '""', f"{new} {new}"):
        for method in ("PUT", "DELETE"):
            answer = await collector.request(
                method, url, json={"message": "lost", "severity": "error"}, headers={"If-Match": given}
            )

            assert outcome(answer) == (412, "precondition_failed"), given
            assert new in answer.json()["detail"]
    assert (await collector.get(url)).json()["message"] == "by another"
    assert (await collector.get("/api/events/stats")).json() == counts


async def test_a_change_can_be_made_to_need_another_state(collector: httpx.AsyncClient) -> None:
    url, tag = await created(collector)
    for given in (tag, "*", f"W/{tag}"):
        answer = await collector.put(url, json={"message": "x"}, headers={"If-None-Match": given})
        assert outcome(answer) == (412, "precondition_failed")
    assert (await collector.put(url, json={"message": "x"}, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_of_many_who_change_the_same_state_at_once_one_wins(collector: httpx.AsyncClient) -> None:
    """Compare and swap: no increment is lost, so the comparison is made under the row's lock."""
    url, _ = await created(collector, details={"n": 0})

    async def increment() -> int:
        for refused in range(1_000):
            answer = await collector.get(url)
            n = answer.json()["details"]["n"]
            put = await collector.put(url, json={"details": {"n": n + 1}}, headers={"If-Match": answer.headers["etag"]})
            if put.status_code == 200:
                return refused
            assert outcome(put) == (412, "precondition_failed")
        raise AssertionError("starved")

    refused = await asyncio.gather(*(increment() for _ in range(12)))
    assert (await collector.get(url)).json()["details"] == {"n": 12}
    assert sum(refused) > 0


async def test_the_state_is_compared_after_the_lock_is_got(collector: httpx.AsyncClient, settings: Settings) -> None:
    url, tag = await created(collector)
    event_id = int(url.rpartition("/")[2])
    async with connected(settings.dsn) as connection:
        async with connection.transaction():
            await connection.execute("UPDATE system_events SET message = 'by another' WHERE id = $1", event_id)
            put = asyncio.create_task(collector.put(url, json={"message": "lost"}, headers={"If-Match": tag}))
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while (await sql(settings.dsn, blocked))[0][0] == 0:
                assert not put.done()
        assert outcome(await put) == (412, "precondition_failed")
    assert (await collector.get(url)).json()["message"] == "by another"


async def test_a_refused_change_makes_a_stale_cached_state_go(settings: Settings, serve: Serve) -> None:
    async with serve(settings, redis_url="none") as client:
        url, tag = await created(client)
        await sql(
            settings.dsn, "UPDATE system_events SET message = 'by SQL' WHERE id = $1", int(url.rpartition("/")[2])
        )
        assert await tag_of(client, url) == tag  # cached
        assert (await client.delete(url, headers={"If-Match": tag})).status_code == 412

        assert (await client.delete(url, headers={"If-Match": await tag_of(client, url)})).status_code == 204

"""Metrics: every metric of the list is served, counts what it should, and has the right labels."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from brain_collector.metrics import METRICS
from brain_collector.settings import Settings
from brain_events.wire import new_key
from tests.conftest import Serve
from tests.support.collector import create, event, ndjson, post_batch, sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EMBEDDED_ONLY = {
    "brain_collector_engine_up",
    "brain_collector_engine_restarts_total",
    "brain_collector_data_dir_free_bytes",
    "brain_collector_data_dir_size_bytes",
}


async def scraped(client: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return every sample: by name and label values, sorted by label name."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def value(client: httpx.AsyncClient, name: str, *labels: str) -> float:
    return (await scraped(client)).get((f"brain_collector_{name}", labels), 0.0)


async def test_every_metric_of_the_list_is_served_with_its_type_and_help(collector: httpx.AsyncClient) -> None:
    async def surveyed() -> bool:
        return "brain_collector_fold_lag_seconds" in (await collector.get("/metrics")).text

    await eventually(surveyed, "the database was surveyed")
    text = (await collector.get("/metrics")).text

    served = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    expected = {metric.name: metric.kind for metric in METRICS if metric.name not in EMBEDDED_ONLY}
    assert {name: kind for name, kind in served.items() if name in expected} == expected
    assert all(name.startswith(("process_", "brain_collector_")) for name in served)
    assert "process_resident_memory_bytes" in served


async def test_a_request_is_counted_under_its_route_and_never_under_its_path(collector: httpx.AsyncClient) -> None:
    for number in range(3):
        assert (await collector.get(f"/api/events/{10**9 + number}")).status_code == 404
    assert (await collector.get("/no/such/path")).status_code == 404
    assert (await collector.request("PROPFIND", "/api/events")).status_code == 405

    found = await scraped(collector)
    assert found["brain_collector_requests_total", ("GET", "/api/events/{id}", "404")] == 3
    assert found["brain_collector_request_seconds_count", ("GET", "/api/events/{id}")] == 3
    assert found["brain_collector_requests_total", ("GET", "none", "404")] == 1
    assert not any("such" in label or label == "PROPFIND" for _, labels in found for label in labels)


async def test_events_are_counted_as_accepted_rejected_by_reason_and_duplicate(collector: httpx.AsyncClient) -> None:
    body = ndjson(event(), event(), event(severity="odd"), event(event_type=""))
    key = new_key()
    for _ in range(2):
        assert (await post_batch(collector, body, key=key)).status_code == 200
    await create(collector)
    assert (await collector.post("/api/events", json=event(severity="odd"))).status_code == 422
    assert (await post_batch(collector, ndjson(event(severity="odd")))).status_code == 422

    found = await scraped(collector)
    rejected = {labels[0]: n for (name, labels), n in found.items() if name.endswith("events_rejected_total")}
    assert found["brain_collector_events_accepted_total", ()] == 3
    assert sum(rejected.values()) == 4
    assert all(re.fullmatch(r"[a-z_]+", reason) for reason in rejected)
    assert found["brain_collector_duplicates_total", ()] == 1
    assert found["brain_collector_batch_events_count", ()] == 2
    assert found["brain_collector_batch_events_sum", ()] == 5


async def test_the_cache_counts_hits_misses_and_bypasses(settings: Settings, serve: Serve) -> None:
    async with serve(settings, redis_url="none") as client:
        created = await create(client)
        for _ in range(3):
            await client.get(f"/api/events/{created['id']}")
        assert await value(client, "cache_requests_total", "miss", "event") == 1
        assert await value(client, "cache_requests_total", "hit", "event") == 2

    async with serve(settings, redis_url="unix:///nowhere/redis.sock") as client:
        await client.get(f"/api/events/{created['id']}")
        assert await value(client, "cache_requests_total", "bypass", "event") == 1


async def test_two_applications_in_one_process_count_for_themselves(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as one, serve(settings) as other:
        await create(one)

        assert await value(one, "events_accepted_total") == 1
        assert await value(other, "events_accepted_total") == 0


async def test_a_stuck_fold_and_its_journal_are_seen_on_any_collector(settings: Settings, serve: Serve) -> None:
    async with serve(settings, fold_interval_s=3600.0) as client:

        async def seen() -> bool:  # the first fold may yet come
            await sql(settings.dsn, "UPDATE jobs SET done_at = now() - interval '1 hour' WHERE name = 'fold'")
            await create(client)
            lag_s, rows = await value(client, "fold_lag_seconds"), await value(client, "journal_rows")
            return lag_s > 3500 and rows > 0

        await eventually(seen, "the lag and the journal are shown")
        assert await value(client, "partition_ahead_seconds") >= settings.days_ahead * 86_400


async def test_metrics_need_the_key(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key="secret") as client:
        assert (await client.get("/metrics")).status_code == 401
        answer = await client.get("/metrics", headers={"Authorization": "Bearer secret"})
        assert 'route="none",status="401"' in answer.text

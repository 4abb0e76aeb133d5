"""`brain-events sample` and `bench`: made-up events, and what a collector does with them."""

import httpx
import msgspec
import pytest

from brain_collector.cli.commands.bench import SOURCE, Result
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import command, count_foreign, sql

pytestmark = pytest.mark.anyio


async def test_samples_are_as_many_as_were_asked_for(collector: httpx.AsyncClient, settings: Settings) -> None:
    code, out, err = await command(collector, "sample", "1300", "--seed", "7", "--over", "2h")
    assert (code, out, err) == (0, "", "1,300 events stored\n")
    assert await count_foreign(settings.dsn) == 1300
    ((types, sources, adjusted),) = await sql(
        settings.dsn,
        "SELECT count(DISTINCT event_type), count(DISTINCT source), count(*) FILTER (WHERE details::text LIKE "
        "'%_adjusted%') FROM system_events WHERE source <> 'collector' AND timestamp > now() - interval '2h 1min'",
    )
    assert (types, adjusted) == (7, 0)
    assert sources > 3


async def test_samples_come_at_a_rate_and_from_a_source(collector: httpx.AsyncClient, settings: Settings) -> None:
    code, _, err = await command(collector, "sample", "20", "--rate", "100", "--source", "mine")
    assert (code, err) == (0, "20 events stored\n")
    assert await sql(settings.dsn, "SELECT count(*) FROM system_events WHERE source = 'mine'") == [(20,)]


async def test_a_seed_makes_the_same_events(collector: httpx.AsyncClient) -> None:
    for source in ("one", "two"):
        await command(collector, "sample", "50", "--seed", "3", "--source", source)
    found = [(await collector.get("/api/events", params={"source": source})).json() for source in ("one", "two")]
    kept = ("event_type", "severity", "message", "details")
    one, two = ([[each[name] for name in kept] for each in sorted(events, key=lambda e: e["id"])] for events in found)
    assert len(one) == 50
    assert one == two


async def test_bench_says_what_it_measured_and_stored(collector: httpx.AsyncClient, settings: Settings) -> None:
    fast = ("--seconds", "0.5", "--batch", "20", "--clients", "2")
    code, out, err = await command(collector, "bench", *fast, "--json")
    assert (code, err) == (0, "")
    found = msgspec.json.decode(out, type=Result)
    assert (found.clients, found.events_per_batch, found.refused) == (2, 20, 0)
    assert 0 < found.p50_ms <= found.p95_ms <= found.max_ms
    ((stored,),) = await sql(settings.dsn, "SELECT count(*) FROM system_events WHERE source = $1", SOURCE)
    assert stored == (found.batches + 1) * 20  # and the one that came first
    code, out, _ = await command(collector, "bench", *fast)
    assert code == 0
    assert "events/s stored" in out
    assert "clients: 2" in out


async def test_bench_says_why_it_cannot(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_batch_events=10) as client:
        code, out, err = await command(client, "bench", "--seconds", "0.1", "--batch", "20")
        assert (code, out, "more than 10 events" in err) == (1, "", True)

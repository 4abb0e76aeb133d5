"""Statistics: the original's shape, and numbers that are exact whatever is written, changed, deleted and folded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from brain_collector.counts import fold as folding
from brain_collector.counts import journal
from brain_collector.counts.fold import fold
from brain_collector.counts.overall import OVERALL
from brain_collector.jobs import idempotency_keys
from brain_collector.query.filter import Filter
from brain_collector.read.statistics import statistics
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_events.wire import SEVERITIES
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, post_batch, sql, started
from tests.support.effort import times

pytestmark = pytest.mark.anyio

FOLDING = {"fold_interval_s": 0.005}


async def stats(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/api/events/stats")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def counted(dsn: str) -> dict[str, Any]:
    """Return what the statistics must be, by COUNT(*)."""
    async with connected(dsn) as connection, connection.transaction(isolation="repeatable_read"):
        by: dict[str, dict[str, int]] = {}
        for name in ("event_type", "severity"):
            rows = await connection.fetch(f"SELECT {name}, count(*) FROM system_events GROUP BY 1")
            by[name] = {row[0]: row[1] for row in rows}
        recent = 'SELECT count(*) FROM system_events WHERE "timestamp" >= $1'
        last = await connection.fetchval('SELECT max("timestamp") FROM system_events')
        return {
            "total_events": await connection.fetchval("SELECT count(*) FROM system_events"),
            "events_by_severity": by["severity"],
            "events_by_type": by["event_type"],
            "recent_events": await connection.fetchval(recent, datetime.now(UTC) - timedelta(hours=24)),
            "last_event_timestamp": None if last is None else last.isoformat().replace("+00:00", "Z"),
        }


async def test_statistics_have_the_shape_of_the_original(collector: httpx.AsyncClient, settings: Settings) -> None:
    await started(settings.dsn)
    moment = (datetime.now(UTC) + timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
    await create(collector, event_type="deployment", severity="warning")
    await create(collector, event_type="deployment", severity="error")
    await create(collector, event_type="test_event", severity="error", timestamp=moment)
    await create(collector, event_type="test_event", severity="critical", timestamp="2020-01-01T00:00:00Z")

    assert await stats(collector) == {
        "total_events": 5,
        "events_by_severity": {"info": 1, "warning": 1, "error": 2, "critical": 1},
        "events_by_type": {"system_startup": 1, "deployment": 2, "test_event": 2},
        "recent_events": 4,
        "last_event_timestamp": moment,
    }


async def test_an_empty_database_counts_nothing(collector: httpx.AsyncClient, settings: Settings) -> None:
    await started(settings.dsn)
    (startup,) = (await collector.get("/api/events")).json()
    await collector.delete(f"/api/events/{startup['id']}")

    assert await stats(collector) == {
        "total_events": 0,
        "events_by_severity": {},
        "events_by_type": {},
        "recent_events": 0,
        "last_event_timestamp": None,
    }


async def test_the_last_event_is_found_however_long_ago_it_was(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    await started(settings.dsn)
    (startup,) = (await collector.get("/api/events")).json()
    await create(collector, timestamp="2019-12-31T00:00:00Z")
    await create(collector, timestamp="2020-01-01T00:00:00Z")
    await collector.delete(f"/api/events/{startup['id']}")

    found = await stats(collector)

    assert (found["total_events"], found["last_event_timestamp"]) == (2, "2020-01-01T00:00:00Z")
    assert found == await counted(settings.dsn)


async def test_recent_events_are_those_of_the_last_24_hours(collector: httpx.AsyncClient, settings: Settings) -> None:
    await started(settings.dsn)
    now = datetime.now(UTC)
    ages = [timedelta(hours=24) + timedelta(minutes=minutes) for minutes in (-61, -31, -1, 1, 31, 61)]
    hours = [journal.hour(now) - timedelta(hours=n) for n in (0, 1, 22, 23, 25, 48)]
    moments = [*(now - age for age in ages), *hours, now + timedelta(hours=2)]
    for folded in (False, True):
        await post_batch(collector, ndjson(*(event(timestamp=moment.isoformat()) for moment in moments)))
        async with connected(settings.dsn) as connection:
            if folded:
                await fold(connection, max_types=1_000)

        assert (await stats(collector))["recent_events"] == 1 + (3 + 4 + 1) * (1 + folded)
    assert await stats(collector) == await counted(settings.dsn)


async def test_types_and_severities_without_events_left_are_not_shown(collector: httpx.AsyncClient) -> None:
    for created in [await create(collector, event_type="brief", severity="critical") for _ in range(2)]:
        await collector.delete(f"/api/events/{created['id']}")

    found = await stats(collector)
    assert "brief" not in found["events_by_type"]
    assert "critical" not in found["events_by_severity"]


async def test_folding_again_changes_nothing(settings: Settings, serve: Serve) -> None:
    async def tables() -> list[list[tuple[Any, ...]]]:
        every = "SELECT grain, bucket, event_type, severity, n FROM event_counts ORDER BY 1, 2, 3, 4"
        return [await sql(settings.dsn, every), await sql(settings.dsn, "SELECT * FROM event_deltas")]

    async with serve(settings, fold_interval_s=3600) as client:
        await started(settings.dsn)
        await post_batch(client, ndjson(*(event(event_type=f"t{n % 3}") for n in range(30))))
        async with connected(settings.dsn) as connection:
            assert await fold(connection, max_types=1_000)
            folded = await tables()
            assert await fold(connection, max_types=1_000) == 0

        assert await tables() == folded
        assert folded[1] == []
        assert await stats(client) == await counted(settings.dsn)


async def test_only_one_collector_at_a_time_folds(database_url: str) -> None:
    async with connected(database_url) as one, connected(database_url) as other:
        async with one.transaction():
            await one.execute(folding._TRY_LOCK)
            assert await fold(other, max_types=1_000) is None
        assert await fold(other, max_types=1_000) == 0


async def test_a_collector_killed_in_the_middle_of_a_fold_leaves_it_whole_to_the_other(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, fold_interval_s=3600) as client:
        await started(settings.dsn)
        await post_batch(client, ndjson(*(event(event_type=f"t{n % 3}") for n in range(30))))
        async with connected(settings.dsn) as holder, connected(settings.dsn) as other:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute(folding._TRY_LOCK)
            await holder.execute(folding._FOLD, 1_000, 1_000, [])
            assert await fold(other, max_types=1_000) is None
            pid = holder.get_server_pid()
            assert await other.fetchval("SELECT pg_terminate_backend($1, 30000)", pid)
            assert (await stats(client))["total_events"] == (await counted(settings.dsn))["total_events"]

            assert await fold(other, max_types=1_000)
            assert await other.fetchval("SELECT count(*) FROM event_deltas") == 0
            assert (
                await other.fetchval("SELECT sum(n) FROM event_counts WHERE grain = 'day' AND event_type ~ '^t'") == 30
            )

        assert await stats(client) == await counted(settings.dsn)


async def test_only_one_collector_at_a_time_forgets_old_keys(settings: Settings) -> None:
    async with connected(settings.dsn) as one, connected(settings.dsn) as other:
        await one.execute(
            "INSERT INTO batches (key, digest, first_id, n, min_ts, max_ts, received_at) "
            "SELECT gen_random_uuid(), 0, 1, 1, now(), now(), now() - interval '20 days' FROM generate_series(1, 5)"
        )
        async with one.transaction():
            await one.execute("SELECT name FROM jobs WHERE name = 'maintain' FOR UPDATE")
            assert await idempotency_keys.forget_some(other, settings.idempotency_key_life_days) is False
            assert await other.fetchval("SELECT count(*) FROM batches") == 5
        await other.execute("UPDATE search_progress SET xid = 4611686018427387904")  # all of it is indexed
        assert await idempotency_keys.forget_some(other, settings.idempotency_key_life_days) is True
        assert await other.fetchval("SELECT count(*) FROM batches") == 0


# -- exact under concurrency

kind = st.sampled_from(["a", "b", "c"])
severity = st.sampled_from(SEVERITIES)
moment = st.sampled_from([None, "2026-01-02T12:00:00Z", "2026-01-02T12:59:59.999999Z", "2020-02-29T23:30:00-02:00"])
step = st.one_of(
    st.tuples(st.just("create"), kind, severity, moment),
    st.tuples(st.just("batch"), kind, severity, moment, st.integers(1, 250)),
    st.tuples(st.just("update"), kind, severity, st.integers(0, 5)),
    st.tuples(st.just("delete"), st.integers(0, 5)),
)


async def take(client: httpx.AsyncClient, step: tuple[Any, ...], known: list[int]) -> None:
    """Do one step; updates and deletes hit events that another worker may be at."""
    name, *rest = step
    if name == "create":
        known.append((await create(client, event_type=rest[0], severity=rest[1], timestamp=rest[2]))["id"])
    elif name == "batch":
        line = ndjson(event(event_type=rest[0], severity=rest[1], timestamp=rest[2]))
        assert (await post_batch(client, line * rest[3])).status_code == 200
    elif known:
        url = f"/api/events/{known[rest[-1] % len(known)]}"
        if name == "update":
            answer = await client.put(url, json={"event_type": rest[0], "severity": rest[1]})
        else:
            answer = await client.delete(url)
        assert answer.status_code in {200, 204, 404}, answer.text


async def work(client: httpx.AsyncClient, steps: list[tuple[Any, ...]], known: list[int]) -> None:
    for each in steps:
        await take(client, each, known)


@pytest.fixture
async def pair(settings: Settings, serve: Serve) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two collectors on one database, that fold as often as they can."""
    async with serve(settings, **FOLDING) as one, serve(settings, **FOLDING) as other:
        await started(settings.dsn, collectors=2)
        yield [one, other]


@given(plans=st.lists(st.lists(step, max_size=8), min_size=2, max_size=5))
@hypothesis_settings(max_examples=times(15))
async def test_statistics_are_exact_after_any_mix_of_writes_at_once(
    settings: Settings, pair: list[httpx.AsyncClient], plans: list[list[tuple[Any, ...]]]
) -> None:
    known: list[int] = []
    await asyncio.gather(*(work(pair[n % 2], plan, known) for n, plan in enumerate(plans)))

    expected = await counted(settings.dsn)
    assert [await stats(client) for client in pair] == [expected, expected]


# -- of a filter

edge = st.sampled_from(
    [
        None,
        *("2020-03-01T01:30:00Z", "2020-03-01T01:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T12:00:00Z"),
        *("2026-01-02T12:30:00Z", "2026-01-02T13:00:00Z", "2026-01-02T12:59:59.999999Z", "2026-01-03T00:00:00Z"),
        *("2026-01-02T12:59:59.999999Z", "9999-12-31T23:30:00Z", "0001-01-01T00:30:00Z", "now", "-1h", "-24h"),
    ]
)
narrowed = st.fixed_dictionaries(
    {
        "event_type": st.lists(st.sampled_from(["a", "b", "none"]), max_size=2),
        "severity": st.none() | st.tuples(st.sampled_from(["severity", "severity_min"]), severity),
        "range": st.tuples(edge, edge),
    }
)


def parameters(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a query of a filter: ages become moments, and the ends of the range are put in order."""
    now = datetime.now(UTC)
    ages = {"now": now, "-1h": now - timedelta(hours=1), "-24h": journal.hour(now) - timedelta(hours=24)}
    given = [None if each is None else ages.get(each) or datetime.fromisoformat(each) for each in wanted["range"]]
    if None not in given:
        given.sort()
    ends = [(name, moment.isoformat()) for name, moment in zip(("from", "to"), given, strict=True) if moment]
    return [
        *(("event_type", each) for each in wanted["event_type"]),
        *([wanted["severity"]] if wanted["severity"] else []),
        *ends,
    ]


async def counted_of(dsn: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what the statistics of a filter must be, by looking at every event."""
    rows = await sql(dsn, 'SELECT event_type, severity, "timestamp" FROM system_events')
    given = dict(query)
    types = {text for name, text in query if name == "event_type"}
    severities = SEVERITIES[SEVERITIES.index(given["severity_min"]) :] if "severity_min" in given else SEVERITIES
    kept = [
        row
        for row in rows
        if (not types or row[0] in types)
        and row[1] == given.get("severity", row[1])
        and row[1] in severities
        and ("from" not in given or row[2] >= datetime.fromisoformat(given["from"]))
        and ("to" not in given or row[2] < datetime.fromisoformat(given["to"]))
    ]
    last = max((row[2] for row in kept), default=None)
    return {
        "total_events": len(kept),
        "events_by_severity": dict(Counter(row[1] for row in kept)),
        "events_by_type": dict(Counter(row[0] for row in kept)),
        "recent_events": sum(row[2] >= datetime.now(UTC) - timedelta(hours=24) for row in kept),
        "last_event_timestamp": None if last is None else last.isoformat().replace("+00:00", "Z"),
    }


@given(
    plans=st.lists(st.lists(step, max_size=6), min_size=2, max_size=4),
    filters=st.lists(narrowed, min_size=4, max_size=8),
)
@hypothesis_settings(max_examples=times(15))
async def test_statistics_of_a_filter_are_exact_after_any_mix_of_writes_at_once(
    settings: Settings,
    pair: list[httpx.AsyncClient],
    plans: list[list[tuple[Any, ...]]],
    filters: list[dict[str, Any]],
) -> None:
    known: list[int] = []
    await asyncio.gather(*(work(pair[n % 2], plan, known) for n, plan in enumerate(plans)))

    for number, wanted in enumerate(filters):
        query = parameters(wanted)
        answer = await pair[number % 2].get("/api/events/stats", params=httpx.QueryParams(tuple(query)))
        assert (answer.status_code, answer.json()) == (200, await counted_of(settings.dsn, query)), query


async def test_a_taken_back_count_does_not_hide_an_older_event(settings: Settings, serve: Serve) -> None:
    async with serve(settings, fold_interval_s=3600) as client:
        moments = ("2026-01-02T11:20:00Z", "2026-01-02T12:30:00Z", "2026-01-03T09:00:00Z")
        created = [await create(client, event_type="t", timestamp=moment) for moment in moments]
        for folded in (False, True):
            if folded:
                async with connected(settings.dsn) as connection:
                    await fold(connection, max_types=1_000)
            gone = created.pop()
            await client.delete(f"/api/events/{gone['id']}")
            found = (await client.get("/api/events/stats?event_type=t&to=2026-02-01T00:00:00Z")).json()
            assert (found["total_events"], found["last_event_timestamp"]) == (len(created), created[-1]["timestamp"])


async def test_what_is_not_counted_is_refused_and_what_is_counted_is_named(collector: httpx.AsyncClient) -> None:
    for query in ("source=web", "details.a=1", "id=1", "limit=3", "cursor=x"):
        answer = await collector.get(f"/api/events/stats?{query}")

        assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
        assert "counts can be filtered by type, severity and time only" in answer.json()["detail"]
        assert "event_type, from, severity, severity_min, to" in answer.json()["detail"]


async def test_statistics_are_exact_at_every_moment_of_the_traffic(
    settings: Settings, pair: list[httpx.AsyncClient]
) -> None:
    """Each look compares the very statement of the API with COUNT(*), both in one snapshot."""
    bounds = {":since": "$1::timestamptz", ":first_full_hour": "$2::timestamptz", ":last_since": "$1::timestamptz"}
    statement = OVERALL.replace(":max_types", "1000")
    for name, place in bounds.items():
        statement = statement.replace(name, place)
    done = asyncio.Event()
    looks = 0

    async def look() -> None:
        nonlocal looks
        async with connected(settings.dsn) as connection:
            while not done.is_set():
                since = datetime.now(UTC) - timedelta(hours=24)
                async with connection.transaction(isolation="repeatable_read"):
                    row = await connection.fetchrow(statement, since, journal.hour(since) + timedelta(hours=1))
                    found: dict[str, dict[str, int]] = {}
                    for name in ("severity", "event_type"):
                        rows = await connection.fetch(f"SELECT {name}, count(*) FROM system_events GROUP BY 1")
                        found[name] = {row[0]: row[1] for row in rows}
                assert row is not None
                assert msgspec.json.decode(row["severities"] or "{}") == found["severity"]
                assert msgspec.json.decode(row["types"] or "{}") == found["event_type"]
                assert (row["nameless"], row["recent"]) == (0, sum(found["severity"].values()))
                looks += 1

    async def write(client: httpx.AsyncClient, name: str) -> None:
        for n in range(15):
            created = await create(client, event_type=f"{name}{n % 3}")
            await post_batch(client, ndjson(*[event(event_type=name, severity="error")] * (n * 20 + 1)))
            await client.put(f"/api/events/{created['id']}", json={"severity": "critical", "event_type": "moved"})
            if n % 2:
                await client.delete(f"/api/events/{created['id']}")

    looking = asyncio.create_task(look())
    await asyncio.gather(*(write(pair[n % 2], name) for n, name in enumerate("abc")))
    done.set()
    await looking
    assert looks > 0
    assert (await stats(pair[0]))["events_by_type"]["moved"] == 3 * 8


async def test_the_store_counts_a_database_that_no_collector_has_seen(settings: Settings) -> None:
    store = Store(settings)
    try:
        found = await statistics(store, Filter(), max_types=10)
    finally:
        await store.close()

    assert (found.total_events, found.events_by_type, found.last_event_timestamp) == (0, {}, None)

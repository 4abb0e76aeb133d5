"""Days with more types than are counted by name: every sum stays exact, and what is not known by type is told."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from brain_collector.counts import fold as folding
from brain_collector.counts.fold import fold
from brain_collector.doctor import data
from brain_collector.doctor.check import Bounds, Examination
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, post_batch, sql, started
from tests.support.effort import times

pytestmark = pytest.mark.anyio

STATS, HISTOGRAM, FACETS = "/api/events/stats", "/api/events/histogram", "/api/events/facets"
NAMES = 3
FEW = {"max_types_per_day": NAMES, "fold_interval_s": 3600}
DAY = datetime(2026, 3, 1, tzinfo=UTC)
RANGE = {"from": DAY.isoformat(), "to": (DAY + timedelta(days=3)).isoformat()}


async def ask(client: httpx.AsyncClient, path: str, **parameters: Any) -> dict[str, Any]:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def fold_all(dsn: str, rows: int = folding.PORTION_ROWS) -> None:
    async with connected(dsn) as connection:
        while await fold(connection, max_types=NAMES, rows=rows):
            pass


async def events_of(dsn: str) -> list[tuple[str, str, datetime]]:
    rows = await sql(
        dsn, """SELECT event_type, severity, "timestamp" FROM system_events WHERE "timestamp" < '2026-04-01'"""
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def assert_exact(client: httpx.AsyncClient, dsn: str) -> None:
    """Compare every statement about the days with the events themselves."""
    events = await events_of(dsn)
    types, severities = Counter(each[0] for each in events), Counter(each[1] for each in events)

    stats = await ask(client, STATS, **RANGE)
    nameless = stats.get("events_counted_without_type", 0)
    assert (stats["total_events"], stats["events_by_severity"]) == (len(events), severities)
    assert sum(stats["events_by_type"].values()) + stats.get("events_of_other_types", 0) == len(events)
    assert all(n <= types[name] <= n + nameless for name, n in stats["events_by_type"].items())
    for name in "abcdefg":
        of_type = await ask(client, STATS, **RANGE, event_type=name)
        newest = max((moment for each, _, moment in events if each == name), default=None)
        assert of_type["total_events"] == types[name], name
        assert of_type["last_event_timestamp"] == (newest and newest.isoformat().replace("+00:00", "Z")), name

    facets = await ask(client, FACETS, **RANGE, limit=100)
    for field, expected in (("event_type", types), ("severity", severities)):
        assert {each["value"]: each["n"] for each in facets["fields"][field]["values"]} == expected
    for step in ("1h", "1d"):
        histogram = await ask(client, HISTOGRAM, **RANGE, by="event_type", by_limit=50, step=step)
        assert {each["value"]: each["total"] for each in histogram["series"]} == types
        assert (histogram["total"], histogram["partial"]) == (len(events), False)


async def assert_recount(settings: Settings) -> None:
    async with connected(settings.dsn) as connection:
        await connection.execute("SET timezone TO 'UTC'")
        checks = await data.recount(Examination(connection, settings, Bounds(), None))
    assert [(check.name, check.status) for check in checks] == [("recount", "ok"), ("recount days", "ok")]


async def store(client: httpx.AsyncClient, types: str, at: datetime) -> list[int]:
    return [(await create(client, event_type=each, timestamp=at.isoformat()))["id"] for each in types]


async def test_beyond_the_maximum_events_are_counted_together(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FEW) as client:
        await store(client, "aabbccdeffff", DAY)
        await fold_all(settings.dsn)

        stats = await ask(client, STATS, **RANGE)
        assert stats["events_by_type"] == {"f": 4, "a": 2, "b": 2}
        assert (stats["events_of_other_types"], stats["events_counted_without_type"]) == (4, 4)
        await assert_exact(client, settings.dsn)
        await store(client, "dde", DAY + timedelta(hours=1))  # in the journal, not yet in the counts
        await assert_exact(client, settings.dsn)
        await assert_recount(settings)


async def test_a_day_with_few_types_has_no_rest(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FEW) as client:
        await store(client, "abc", DAY)
        await store(client, "def", DAY + timedelta(days=1))
        await fold_all(settings.dsn)

        stats = await ask(client, STATS, **RANGE)
        assert stats["events_by_type"] == dict.fromkeys("abcdef", 1)
        assert stats.keys().isdisjoint({"events_of_other_types", "events_counted_without_type"})


async def test_an_event_is_subtracted_where_it_was_added(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FEW) as client:
        ids = await store(client, "aaabbcdefg", DAY)
        await fold_all(settings.dsn)
        for number, each in enumerate(ids):
            if number % 2:
                await client.put(f"/api/events/{each}", json={"event_type": "abcdefg"[number % 7], "severity": "error"})
            else:
                await client.delete(f"/api/events/{each}")
            if number % 3 == 0:
                await assert_exact(client, settings.dsn)
        await fold_all(settings.dsn, rows=1)
        await assert_exact(client, settings.dsn)
        await assert_recount(settings)


async def test_counts_that_become_zero_are_removed(settings: Settings, serve: Serve) -> None:
    async with serve(settings, **FEW) as client:
        ids = await store(client, "aabbccdd", DAY) + await store(client, "ab", DAY + timedelta(hours=2))
        await fold_all(settings.dsn)
        for each in ids:
            await client.delete(f"/api/events/{each}")
        await fold_all(settings.dsn, rows=3)

        assert (
            await sql(
                settings.dsn, "SELECT event_type FROM event_counts WHERE bucket < '2026-04-01' AND grain <> 'full'"
            )
            == []
        )
        await assert_recount(settings)


async def test_a_type_of_the_collector_itself_has_a_name_on_every_day(settings: Settings) -> None:
    async with connected(settings.dsn) as connection:
        rows = [(DAY, f"t{n}", "info", 5) for n in range(9)] + [(DAY, "health_check", "info", 1)]
        columns = ("bucket", "event_type", "severity", "n")
        await connection.copy_records_to_table("event_deltas", records=rows, columns=columns)
        await fold(connection, max_types=NAMES, always_named=["health_check"])

        named = await connection.fetch("SELECT event_type FROM event_counts WHERE grain = 'day' ORDER BY n DESC")
    assert "health_check" in {row[0] for row in named}
    assert len(named) == NAMES + 2  # these, and the rest


async def test_a_collector_of_an_earlier_release_that_folds_meanwhile_counts_nothing_twice(settings: Settings) -> None:
    """It locks the row of the job, and deletes the whole journal."""
    columns = ("bucket", "event_type", "severity", "n")
    async with connected(settings.dsn) as earlier, connected(settings.dsn) as connection:
        rows = [(DAY, "a", "info", 1) for _ in range(5)]
        await connection.copy_records_to_table("event_deltas", records=rows, columns=columns)
        async with earlier.transaction():
            await earlier.execute("DELETE FROM event_deltas")
            folded = asyncio.create_task(fold(connection, max_types=NAMES))
            waiting = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"
            while not await earlier.fetch(waiting, connection.get_server_pid()):
                assert not folded.done()
        assert await folded is None
        assert await connection.fetchval("SELECT count(*) FROM event_counts") == 0


async def test_a_large_journal_is_folded_in_portions_while_it_is_written(settings: Settings) -> None:
    n = 20_000
    async with connected(settings.dsn) as connection, connected(settings.dsn) as other:
        await connection.execute(
            "INSERT INTO event_deltas SELECT $1, 't' || n, 'info', 1 FROM generate_series(1, $2::int) AS n", DAY, n
        )
        portions = 0
        while taken := await fold(connection, max_types=NAMES, rows=5_000):
            portions += 1
            assert taken <= 5_000
            if portions < 3:
                await other.execute("INSERT INTO event_deltas VALUES ($1, 'late', 'info', 1)", DAY)
        assert portions >= n // 5_000
        ((total, rows),) = await sql(settings.dsn, "SELECT sum(n), count(*) FROM event_counts WHERE grain = 'day'")
        assert (total, rows) == (n + 2, NAMES + 1)


# -- at random

kind = st.sampled_from("abcdefg")
severity = st.sampled_from(["info", "error"])
moment = st.integers(0, 3 * 24 - 1).map(lambda hours: DAY + timedelta(hours=hours, minutes=hours % 7))
step = st.one_of(
    st.tuples(st.just("create"), kind, severity, moment),
    st.tuples(st.just("update"), st.integers(0, 99), kind, severity),
    st.tuples(st.just("delete"), st.integers(0, 99)),
    st.tuples(st.just("fold"), st.integers(1, 20)),
)


@pytest.fixture
async def pair(settings: Settings, serve: Serve) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two collectors on one database that fold as often as they can."""
    busy = {**FEW, "fold_interval_s": 0.01}
    async with serve(settings, **busy) as one, serve(settings, **busy) as other:
        await started(settings.dsn, collectors=2)
        yield [one, other]


@given(steps=st.lists(step, min_size=5, max_size=40))
@hypothesis_settings(max_examples=times(6))
async def test_every_statement_is_exact_after_any_changes(
    settings: Settings, pair: list[httpx.AsyncClient], steps: list[tuple[Any, ...]]
) -> None:
    ids: list[int] = []
    for number, (name, *rest) in enumerate(steps):
        client = pair[number % 2]
        if name == "create":
            ids += [(await create(client, event_type=rest[0], severity=rest[1], timestamp=rest[2].isoformat()))["id"]]
        elif name == "fold":
            await fold_all(settings.dsn, rows=rest[0])
        elif ids:
            path = f"/api/events/{ids[rest[0] % len(ids)]}"
            if name == "update":
                await client.put(path, json={"event_type": rest[1], "severity": rest[2]})
            else:
                await client.delete(path)

    await assert_exact(pair[0], settings.dsn)
    await fold_all(settings.dsn)
    await assert_exact(pair[1], settings.dsn)
    await assert_recount(settings)


async def test_statistics_list_the_most_frequent_types_and_add_up_the_others(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_stats_types=2) as client:
        types = random.Random(1).sample([name for n, name in enumerate("abcde", 1) for _ in range(n)], 15)
        await post_batch(client, ndjson(*(event(event_type=name, timestamp=DAY.isoformat()) for name in types)))

        for query in ({}, RANGE):
            stats = await ask(client, STATS, **query)
            assert list(stats["events_by_type"].items())[:2] == [("e", 5), ("d", 4)]
            assert stats["events_of_other_types"] == stats["total_events"] - 9
            assert "events_counted_without_type" not in stats

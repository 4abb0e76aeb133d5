"""The histogram and the facets, held against counts made here of what was sent."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from brain_collector.read import histogram
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, event, ndjson, post_batch

pytestmark = pytest.mark.anyio

HISTOGRAM, FACETS = "/api/events/histogram", "/api/events/facets"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEPS = {"10s": 10, "7m": 420, "1h": 3_600, "5h": 18_000, "1d": 86_400, "3d": 3 * 86_400}
OWN = {"source": "collector"}


@pytest.fixture(autouse=True)
def generous_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no result be partial because the machine is slow; the tests of partial results set their own budget."""
    monkeypatch.setattr(histogram, "BUDGET_S", 60.0)


def some_events(n: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return events of a few days, many of them at the edges of hours and days."""
    dice = random.Random(seed)
    edges = [timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1), timedelta(minutes=31)]
    return [
        event(
            event_type=dice.choice("abcde"),
            severity=dice.choice(["info", "warning", "error", "critical"]),
            source=dice.choice(["shop", "api", None]),
            details={"n": dice.randrange(3)},
            timestamp=(NOON + timedelta(hours=dice.randrange(-60, 12)) + dice.choice(edges)).isoformat(),
        )
        for _ in range(n)
    ]


async def store(client: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    answer = await post_batch(client, ndjson(*events))
    assert answer.json()["accepted"] == len(events), answer.text


async def ask(client: httpx.AsyncClient, path: str, *parameters: tuple[str, Any]) -> dict[str, Any]:
    answer = await client.get(path, params=list(parameters))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def wanted(events: list[dict[str, Any]], parameters: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return those of the events that the parameters want."""
    given = dict(parameters)
    types = [value for name, value in parameters if name == "event_type"]
    return [
        each
        for each in events
        if (not types or each["event_type"] in types)
        and given.get("severity") in {None, each["severity"]}
        and given.get("source") in {None, each["source"]}
        and given.get("details.n") in {None, each["details"]["n"]}
        and given["from"] <= each["timestamp"] < given["to"]
    ]


def random_parameters(dice: random.Random) -> list[tuple[str, Any]]:
    since = NOON + timedelta(hours=dice.randrange(-70, 14), minutes=dice.choice([0, 0, 30]))
    until = since + timedelta(hours=dice.choice([1, 5, 24, 60]), minutes=dice.choice([0, 0, 17]))
    found: list[tuple[str, Any]] = [("from", since.isoformat()), ("to", until.isoformat())]
    found += dice.choice([[], [("event_type", "a")], [("event_type", "b"), ("event_type", "c")]])
    found += dice.choice([[], [("severity", "error")]])
    found += dice.choice([[], [], [("source", "shop")], [("details.n", 1)]])
    return found


async def test_a_histogram_counts_each_event_in_its_bucket(collector: httpx.AsyncClient) -> None:
    events = some_events(400)
    await store(collector, events)
    dice = random.Random(2)
    for _ in range(120):
        parameters = random_parameters(dice)
        by = dice.choice(["severity", "event_type", "source"])
        step, step_s = dice.choice([each for each in STEPS.items() if each[1] >= 420])
        found = await ask(collector, HISTOGRAM, *parameters, ("step", step), ("by", by))

        expected = Counter(
            ((datetime.fromisoformat(each["timestamp"]) - EPOCH) // timedelta(seconds=step_s) * step_s, each[by])
            for each in wanted(events, parameters)
        )
        counted = Counter(
            {
                ((datetime.fromisoformat(start) - EPOCH) // timedelta(seconds=1), series["value"]): n
                for series in found["series"]
                for start, n in zip(found["starts"], series["counts"], strict=True)
                if n
            }
        )
        assert counted == expected, (parameters, step, by)
        assert found["total"] == expected.total() == sum(series["total"] for series in found["series"])
        assert not found["partial"]
        assert found["counted_from"] == found["from"]
        assert found["other"] == {"counts": [0] * len(found["starts"]), "total": 0}


async def test_facets_count_each_value(collector: httpx.AsyncClient) -> None:
    events = some_events(400)
    await store(collector, events)
    dice = random.Random(3)
    for _ in range(60):
        parameters = random_parameters(dice)
        found = await ask(collector, FACETS, *parameters)
        expected = wanted(events, parameters)
        assert found["total"] == len(expected)
        for field, facet in found["fields"].items():
            counted = {each["value"]: each["n"] for each in facet["values"]}
            assert counted == Counter(each[field] for each in expected), (parameters, field)
            assert facet["other"] == 0
            assert not facet["partial"]


async def test_what_is_beyond_the_limit_is_added_up(collector: httpx.AsyncClient) -> None:
    at = NOON.isoformat()
    await store(collector, [event(event_type=f"t{n}", timestamp=at) for n in range(20) for _ in range(n + 1)])
    span = ("from", at), ("to", (NOON + timedelta(minutes=2)).isoformat())
    found = await ask(collector, HISTOGRAM, *span, ("by", "event_type"), ("by_limit", 2), ("step", "1m"))
    assert found["series"] == [
        {"value": "t19", "counts": [20, 0], "total": 20},
        {"value": "t18", "counts": [19, 0], "total": 19},
    ]
    assert found["other"] == {"counts": [171, 0], "total": 171}
    assert found["total"] == 210
    facet = (await ask(collector, FACETS, *span, ("limit", 2)))["fields"]["event_type"]
    assert facet == {
        "values": [{"value": "t19", "n": 20}, {"value": "t18", "n": 19}],
        "other": 171,
        "partial": False,
    }


async def test_without_a_range_it_is_the_last_day(collector: httpx.AsyncClient) -> None:
    await store(collector, [event(source="x"), event(source="x", timestamp="2026-01-01T00:00:00Z")])
    found = await ask(collector, HISTOGRAM, ("source", "x"), ("by", "none"))
    assert found["total"] == 1
    assert [series["value"] for series in found["series"]] == [None]
    assert datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"]) == timedelta(hours=24)
    assert len(found["starts"]) <= 121
    assert (await ask(collector, FACETS, ("source", "x")))["total"] == 1


async def test_counts_follow_changes_and_deletions(collector: httpx.AsyncClient) -> None:
    answer = await collector.post("/api/events", json=event(source="x"))
    own = [("event_type", "test"), ("step", "1h")]
    assert (await ask(collector, HISTOGRAM, *own))["series"][0]["value"] == "info"
    await collector.put(f"/api/events/{answer.json()['id']}", json={"severity": "error"})
    found = await ask(collector, HISTOGRAM, *own)
    assert [(each["value"], each["total"]) for each in found["series"]] == [("error", 1)]
    await collector.delete(f"/api/events/{answer.json()['id']}")
    assert (await ask(collector, HISTOGRAM, *own))["series"] == []
    assert (await ask(collector, FACETS, ("event_type", "test")))["fields"]["severity"]["values"] == []


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("source", [[], [("source", "x")]])
async def test_the_ends_of_the_calendar_can_be_asked_for(
    collector: httpx.AsyncClient, since: str, until: str, source: list[tuple[str, str]]
) -> None:
    await store(collector, [event(source="x", timestamp="2026-01-01T00:00:00Z")])
    n = 1 if since < "2026" < until else 0
    parameters = [("from", since), ("to", until), ("event_type", "test"), *source]
    found = await ask(collector, HISTOGRAM, *parameters)
    assert found["total"] == n
    assert not found["partial"]
    assert len(found["starts"]) <= 121
    assert (await ask(collector, FACETS, *parameters))["total"] == n


async def test_when_the_time_is_spent_the_newest_are_counted_and_it_is_said(
    collector: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histogram, "BUDGET_S", 0.0)  # one piece is counted, whatever
    late, early = NOON + timedelta(minutes=30), NOON - timedelta(hours=5)
    await store(collector, [event(timestamp=at.isoformat(), source="x") for at in (late, late, early)])
    end = NOON + timedelta(hours=1)
    span = ("from", (NOON - timedelta(hours=6)).isoformat()), ("to", end.isoformat())

    found = await ask(collector, HISTOGRAM, *span, ("source", "x"), ("step", "1h"))
    assert found["partial"]
    assert datetime.fromisoformat(found["counted_from"]) == NOON
    assert found["total"] == 2

    found = await ask(collector, FACETS, *span, ("event_type", "test"))
    assert found["partial"]
    assert found["fields"]["source"] == {"values": [{"value": "x", "n": 2}], "other": 0, "partial": True}
    assert found["fields"]["severity"] == {"values": [{"value": "info", "n": 3}], "other": 0, "partial": False}


async def test_a_statement_that_takes_too_long_is_told_as_a_part(settings: Settings, serve: Serve) -> None:
    async with serve(settings, read_deadline_s=2.0) as client, connected(settings.dsn) as other:
        await store(client, [event(source="x")])
        async with other.transaction():
            await other.execute("LOCK TABLE system_events IN ACCESS EXCLUSIVE MODE")
            found = await ask(client, HISTOGRAM, ("source", "x"))
            assert found["partial"]
            assert found["total"] == 0
            assert found["counted_from"] == found["to"]
        assert (await ask(client, HISTOGRAM, ("source", "x")))["total"] == 1


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        (HISTOGRAM, {"step": "0s"}, "step is '0s'"),
        (HISTOGRAM, {"step": "99999999d"}, "step is '99999999d'"),
        (HISTOGRAM, {"step": "5 minutes"}, "step is '5 minutes'"),
        (HISTOGRAM, {"step": "1s"}, "results in 86,4"),
        (HISTOGRAM, {"by": "message"}, "by is 'message', must be one of severity, event_type, source, none"),
        (HISTOGRAM, {"by_limit": "0"}, "by_limit is '0'"),
        (HISTOGRAM, {"limit": "3"}, "limit is not a parameter here"),
        (FACETS, {"limit": "101"}, "limit is '101'"),
        (FACETS, {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "which is after `to`"),
    ],
)
async def test_a_wrong_parameter_is_named(
    collector: httpx.AsyncClient, path: str, parameters: dict[str, str], said: str
) -> None:
    answer = await collector.get(path, params=parameters)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("steps", [{"step": "1h"}, {"step": "10m"}])
@pytest.mark.parametrize("source", [{}, {"source": "x"}])
async def test_any_number_of_values_is_answered_with_the_most_frequent_and_the_rest(
    collector: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, steps: dict[str, str], source: dict[str, str]
) -> None:
    for name in ("MAX_VALUES", "MIN_VALUES"):
        monkeypatch.setattr(histogram, name, 3)
    moments = [NOON + timedelta(minutes=n) for n in (0, 70, 300)]  # counted in several parts, newest first
    events = [
        event(event_type=f"t{n}", source="x", timestamp=at.isoformat())
        for at in moments
        for n in range(9)
        for _ in range(n + 1)
    ]
    await store(collector, events)
    whole = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=6)).isoformat()}

    found = (await collector.get(HISTOGRAM, params={**whole, **steps, **source, "by": "event_type"})).json()
    assert [(each["value"], each["total"]) for each in found["series"]] == [("t8", 27), ("t7", 24), ("t6", 21)]
    assert (found["total"], found["other"]["total"], found["partial"]) == (135, 63, False)
    assert [sum(counts) for counts in zip(*(each["counts"] for each in found["series"]), strict=True)].count(24) == 3

    facet = (await collector.get(FACETS, params={**whole, **source})).json()["fields"]["event_type"]
    assert [(each["value"], each["n"]) for each in facet["values"]] == [("t8", 27), ("t7", 24), ("t6", 21)]
    assert (facet["other"], facet["partial"]) == (63, False)

"""Filters of lists: what each matches, how values in the details compare, and what is refused with a remedy."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, post_batch, sql

pytestmark = pytest.mark.anyio

DETAILS: dict[str, Any] = {
    "number": {"v": 42},
    "text of a number": {"v": "42"},
    "number with a fraction": {"v": 42.0},
    "true": {"v": True},
    "text of true": {"v": "true"},
    "null": {"v": None},
    "text of null": {"v": "null"},
    "empty": {"v": ""},
    "object": {"v": {"w": 42}},
    "array": {"v": [7, {"w": 42}]},
    "absent": {"other": 42},
    "key with a dot": {"a.b": 1, "c": {"d.e": {"f": 2}}},
    "key with a backslash": {"a\\b": 1},
    "key of digits": {"1": 42},
    "like SQL": {"'; --": "x' OR '1'='1"},
    "no details": None,
}


@pytest.fixture
async def kept(collector: httpx.AsyncClient) -> httpx.AsyncClient:
    """A collector that keeps an event for each of DETAILS, named after it."""
    answer = await post_batch(
        collector, ndjson(*(event(message=name, details=details) for name, details in DETAILS.items()))
    )
    assert answer.json()["accepted"] == len(DETAILS)
    return collector


async def names(client: httpx.AsyncClient, *parameters: tuple[str, Any]) -> set[str]:
    answer = await client.get("/api/events", params=[("event_type", "test"), *parameters])
    assert answer.status_code == 200, answer.text
    return {found["message"] for found in answer.json()}


async def refusal(client: httpx.AsyncClient, query: str) -> tuple[str, str]:
    """Return which parameter is refused, and the sentence that says why."""
    answer = await client.get(query if query.startswith("/") else f"/api/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid"), (query[:80], answer.text)
    (error,) = answer.json()["errors"]
    return error["pointer"], error["detail"]


async def test_values_in_the_details_compare_as_text(kept: httpx.AsyncClient) -> None:
    found = {
        text: await names(kept, ("details.v", text))
        for text in ("42", "42.0", "true", "false", "null", "", "TRUE", "4")
    }

    assert found == {
        "42": {"number", "text of a number"},
        "42.0": {"number with a fraction"},
        "true": {"true", "text of true"},
        "false": set(),
        "null": {"null", "text of null"},
        "": {"empty"},
        "TRUE": set(),
        "4": set(),
    }


async def test_a_path_goes_through_objects_by_key_and_through_arrays_by_index(kept: httpx.AsyncClient) -> None:
    found = {
        path: await names(kept, (f"details.{path}", "42")) for path in ("v.w", "v.1.w", "v.-1.w", "v.0.w", "1", "other")
    }

    assert found == {
        "v.w": {"object"},
        "v.1.w": {"array"},
        "v.-1.w": {"array"},
        "v.0.w": set(),
        "1": {"key of digits"},
        "other": {"absent"},
    }


async def test_a_backslash_makes_a_dot_part_of_the_key(kept: httpx.AsyncClient) -> None:
    assert await names(kept, (r"details.a\.b", "1")) == {"key with a dot"}
    assert await names(kept, (r"details.c.d\.e.f", "2")) == {"key with a dot"}
    assert await names(kept, ("details.a.b", "1")) == set()
    assert await names(kept, (r"details.a\\b", "1")) == {"key with a backslash"}


async def test_several_details_must_all_hold(collector: httpx.AsyncClient) -> None:
    for user, city in ((1, "Ulm"), (1, "Bonn"), (2, "Ulm")):
        await create(collector, message=f"{user} {city}", details={"user": {"id": user}, "city": city})

    assert await names(collector, ("details.user.id", 1), ("details.city", "Ulm")) == {"1 Ulm"}
    assert await names(collector, ("details.user.id", 2), ("details.city", "Bonn")) == set()


async def test_path_and_value_are_never_part_of_the_statement(kept: httpx.AsyncClient, settings: Settings) -> None:
    assert await names(kept, ("details.'; --", "x' OR '1'='1")) == {"like SQL"}
    for hostile in ("' OR '1'='1", "{v}", '{"v"}', "v}'::text[]; DROP TABLE system_events; --", "%s", ":edge", "$1"):
        assert await names(kept, (f"details.{hostile}", "42")) == set()
        assert await names(kept, ("details.v", hostile)) == set()
        assert await names(kept, ("source", hostile)) == set()

    ((left,),) = await sql(settings.dsn, "SELECT count(*) FROM system_events WHERE event_type = 'test'")
    assert left == len(DETAILS)


async def test_a_details_filter_that_cannot_be_meant_is_refused(collector: httpx.AsyncClient) -> None:
    cases = {
        "details.": "empty key",
        "details.a..b": "empty key",
        "details.a.": "empty key",
        "details.a\\b": "backslash",
        "details.a\\": "backslash",
        "details.a\0": "NUL",
        "details": "to, details.<path>",
        "detail.a": "to, details.<path>",
        ".".join(["details", *"x" * 33]): "33 levels, the maximum is 32",
    }
    for name, why in cases.items():
        _, detail = await refusal(collector, urlencode({name: "1"}))
        assert why in detail, name
    assert "NUL" in (await refusal(collector, "details.a=%00"))[1]
    assert "more than once" in (await refusal(collector, "details.a=1&details.a=2"))[1]


async def test_the_number_and_the_depth_of_filters_are_settings(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_filter_values=2, max_details_depth=3, max_list_limit=2) as client:
        taken = "details.a=1&details.b.c.d=2&event_type=a&event_type=b&id=1,2"
        assert (await client.get(f"/api/events?{taken}")).status_code == 200
        refused = {
            "details.a=1&details.b=2&details.c=3": "3 filters, the maximum is 2",
            "details.a.b.c.d=1": "4 levels, the maximum is 3",
            "event_type=a&event_type=b&event_type=c": "3 values, the maximum is 2",
            "id=1,2,3": "3 values, the maximum is 2; send several requests",
        }
        for query, why in refused.items():
            assert why in (await refusal(client, query))[1]


@pytest.fixture
async def shop(collector: httpx.AsyncClient) -> httpx.AsyncClient:
    kinds = [("a", "info"), ("a", "warning"), ("b", "error"), ("b", "critical"), ("c", "error"), ("c", "info")]
    await post_batch(
        collector,
        ndjson(
            *(
                event(message=str(n), event_type=kind, severity=severity, timestamp=f"2026-01-0{n + 1}T12:00:00Z")
                for n, (kind, severity) in enumerate(kinds)
            )
        ),
    )
    return collector


async def listed(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/api/events?to=2026-01-31T00:00:00Z&{query}")
    assert answer.status_code == 200, answer.text
    return [found["message"] for found in answer.json()]


async def test_severity_min_means_at_least(shop: httpx.AsyncClient) -> None:
    found = {name: await listed(shop, f"severity_min={name}") for name in ("info", "warning", "error", "critical")}

    assert found == {
        "info": ["5", "4", "3", "2", "1", "0"],
        "warning": ["4", "3", "2", "1"],
        "error": ["4", "3", "2"],
        "critical": ["3"],
    }


async def test_a_severity_and_a_least_severity_are_combined_as_all_filters_are(shop: httpx.AsyncClient) -> None:
    assert await listed(shop, "severity=error&severity_min=warning") == await listed(shop, "severity=error") != []
    assert await listed(shop, "severity=info&severity_min=warning") == []
    for path in ("stats", "histogram", "facets"):
        answer = await shop.get(f"/api/events/{path}?severity=info&severity_min=warning")
        assert answer.status_code == 200
        assert "info" not in answer.text


async def test_an_event_type_may_be_repeated(shop: httpx.AsyncClient) -> None:
    found = {
        query: await listed(shop, query)
        for query in (
            "event_type=a&event_type=c",
            "event_type=a&event_type=a&event_type=none",
            "event_type=b&event_type=c&severity_min=error",
            "event_type=a&event_type=b&event_type=c&limit=2&offset=1",
        )
    }

    assert list(found.values()) == [["5", "4", "1", "0"], ["1", "0"], ["4", "3", "2"], ["4", "3"]]


async def test_events_are_found_by_a_list_of_their_ids(shop: httpx.AsyncClient) -> None:
    events = (await shop.get("/api/events?to=2026-01-31T00:00:00Z")).json()
    ids = {found["message"]: found["id"] for found in events}
    wanted = f"id={ids['3']},{ids['0']},{ids['5']},{ids['3']},999999999"

    assert await listed(shop, wanted) == ["5", "3", "0"]
    assert await listed(shop, f"{wanted}&severity=info&limit=1") == ["5"]
    assert await listed(shop, f"{wanted}&from=2026-01-03T00:00:00Z&event_type=b") == ["3"]
    assert (await shop.get(f"/api/events?id={ids['2']}")).json() == [events[3]]


async def test_a_value_that_no_event_can_have_or_that_says_two_things_is_refused(shop: httpx.AsyncClient) -> None:
    cases = {
        "id=": "/id",
        "id=1,": "/id",
        "id=a": "/id",
        "id=0": "/id",
        "id=-1": "/id",
        "id=1,%202": "/id",
        f"id={2**63}": "/id",
        "id=" + "9" * 5_000: "/id",
        "id=%D9%A3": "/id",
        "severity_min=fatal": "/severity_min",
        "severity_min=": "/severity_min",
        "severity=error&severity=info": "/severity",
        "id=1&id=2": "/id",
        "source=a&source=b": "/source",
        "limit=1&limit=2": "/limit",
        "event_type=a&event_type=%00": "/event_type",
    }
    found = {query: (await refusal(shop, query))[0] for query in cases}

    assert found == cases


async def test_a_query_that_no_index_serves_is_cut_by_nothing_but_the_time_and_told_the_remedy(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, read_deadline_s=2.0) as client, connected(settings.dsn) as connection:
        await create(client, message="the oldest", details={"needle": 1}, timestamp="2020-01-01T00:00:00Z")
        await post_batch(client, ndjson(*[event(details={"hay": 1})] * 2_000))
        url = "/api/events?details.needle=1"
        assert [found["message"] for found in (await client.get(url)).json()] == ["the oldest"]

        async with connection.transaction():
            await connection.execute("LOCK TABLE system_events IN ACCESS EXCLUSIVE MODE")
            answers = await asyncio.gather(
                *(
                    client.get(f"{path}{n}")
                    for path in ("/api/events?details.n=", "/api/events/stats?event_type=")
                    for n in (1, 2)
                )
            )
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "query_too_broad")}
        assert all("`from` and `to`" in answer.json()["detail"] for answer in answers)

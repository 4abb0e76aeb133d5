"""Lists over HTTP: filters, order, limits, and a walk along the Link header that meets every event once."""

import asyncio
import base64
import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from brain_collector.query import cursor
from brain_collector.query.filter import Filter
from brain_collector.settings import Settings
from brain_events.wire import SEVERITIES
from tests.conftest import Serve
from tests.integration.http.test_limits import exchange, parsed
from tests.support.collector import connected, create, event, ndjson, post_batch, sql, started
from tests.support.effort import times

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(minutes: int) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


async def listed(client: httpx.AsyncClient, **parameters: Any) -> list[str]:
    answer = await client.get("/api/events", params=parameters)
    assert answer.status_code == 200, answer.text
    return [found["message"] for found in answer.json()]


async def refusal(client: httpx.AsyncClient, query: str) -> tuple[str, str]:
    """Return which parameter a list refuses, and the sentence that says why."""
    answer = await client.get(f"/api/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid"), query[:80]
    (error,) = answer.json().get("errors", [{"pointer": "", "detail": answer.json()["detail"]}])
    return error["pointer"], error["detail"]


@pytest.fixture
async def shop(collector: httpx.AsyncClient) -> httpx.AsyncClient:
    """A collector with six events, one a minute, named by their minute."""
    kinds = ["deployment", "deployment", "health_check", "health_check", "deployment", "test"]
    severities = ["info", "error", "info", "critical", "error", "warning"]
    sources = ["ci", "ci", "web", None, "web", "ci"]
    minutes = zip(range(6), kinds, severities, sources, strict=True)
    await post_batch(
        collector,
        ndjson(
            *(
                event(message=str(n), event_type=kind, severity=severity, source=source, timestamp=at(n))
                for n, kind, severity, source in minutes
            )
        ),
    )
    return collector


async def test_a_list_is_an_array_of_whole_events_newest_first(shop: httpx.AsyncClient) -> None:
    answer = await shop.get("/api/events", params={"to": at(60)})

    assert [found["message"] for found in answer.json()] == ["5", "4", "3", "2", "1", "0"]
    for found in answer.json():
        assert (await shop.get(f"/api/events/{found['id']}")).json() == found


async def test_a_list_is_narrowed_by_each_filter(shop: httpx.AsyncClient) -> None:
    found = {
        "type": await listed(shop, event_type="deployment"),
        "severity": await listed(shop, severity="error"),
        "both": await listed(shop, event_type="deployment", severity="error"),
        "source": await listed(shop, source="web"),
        "all three": await listed(shop, event_type="deployment", severity="error", source="web"),
        "nothing": await listed(shop, event_type="deployment", severity="critical"),
        "unknown": await listed(shop, event_type="never seen"),
    }

    assert found == {
        "type": ["4", "1", "0"],
        "severity": ["4", "1"],
        "both": ["4", "1"],
        "source": ["4", "2"],
        "all three": ["4"],
        "nothing": [],
        "unknown": [],
    }


async def test_a_time_range_holds_its_start_but_not_its_end(shop: httpx.AsyncClient) -> None:
    found = {
        "from": await listed(shop, **{"from": at(4), "to": at(60)}),
        "to": await listed(shop, to=at(2)),
        "both": await listed(shop, **{"from": at(2), "to": at(4)}),
        "one moment": await listed(shop, **{"from": at(2), "to": at(2)}),
        "with a type": await listed(shop, **{"from": at(1), "to": at(4), "event_type": "deployment"}),
        "without an offset": await listed(shop, **{"from": "2026-01-02T12:04:00", "to": at(60)}),
        "another offset": await listed(shop, **{"from": "2026-01-02T14:04:00+02:00", "to": at(60)}),
    }

    assert found == {
        "from": ["5", "4"],
        "to": ["1", "0"],
        "both": ["3", "2"],
        "one moment": [],
        "with a type": ["1"],
        "without an offset": ["5", "4"],
        "another offset": ["5", "4"],
    }


async def test_a_plus_sign_in_a_time_need_not_be_escaped(shop: httpx.AsyncClient) -> None:
    answer = await shop.get(f"/api/events?from=2026-01-02T12:04:00+00:00&to={at(60).replace('+00:00', 'Z')}")

    assert [found["message"] for found in answer.json()] == ["5", "4"]


async def test_limit_and_offset_cut_out_a_page(shop: httpx.AsyncClient) -> None:
    assert await listed(shop, to=at(60), limit=2, offset=3) == ["2", "1"]
    assert await listed(shop, to=at(60), limit=1) == ["5"]
    assert await listed(shop, to=at(60), offset=6) == []


async def test_events_of_the_same_moment_come_in_the_reverse_order_of_their_ids(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, ndjson(*(event(message=str(n), timestamp=at(0)) for n in range(5))))

    assert await listed(collector, to=at(60)) == ["4", "3", "2", "1", "0"]


async def test_without_a_limit_a_page_has_a_hundred_events(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, ndjson(*(event(timestamp=at(n)) for n in range(101))))
    answer = await collector.get("/api/events", params={"event_type": "test"})

    assert len(answer.json()) == 100
    assert "next" in answer.links


async def test_the_last_page_has_no_link(shop: httpx.AsyncClient) -> None:
    assert "link" not in (await shop.get("/api/events", params={"to": at(60), "limit": 6})).headers
    assert "link" in (await shop.get("/api/events", params={"to": at(60), "limit": 5})).headers


async def test_the_link_keeps_every_filter_and_drops_the_offset(shop: httpx.AsyncClient) -> None:
    wanted: dict[str, Any] = {"event_type": "deployment", "severity": "error", "from": at(0), "to": at(60), "limit": 1}
    first = await shop.get("/api/events", params={**wanted, "source": "web", "offset": 0})
    assert "next" not in first.links
    first = await shop.get("/api/events", params={**wanted, "offset": 0})

    following = httpx.URL(first.links["next"]["url"])
    assert dict(following.params) | {"cursor": ""} == {**{k: str(v) for k, v in wanted.items()}, "cursor": ""}
    assert [found["message"] for found in (await shop.get(following)).json()] == ["1"]


@pytest.mark.parametrize(("n_chars", "status"), [(10_000, 200), (22_300, 422)])
async def test_the_link_can_be_followed_or_the_request_is_refused(
    collector: httpx.AsyncClient, n_chars: int, status: int
) -> None:
    """An apostrophe has one byte in the request, and three in the link."""
    for _ in range(2):
        await create(collector, details={"a": "'" * n_chars})
    end = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    received = await exchange(collector, b"GET /api/events?limit=1&details.a=" + b"'" * n_chars + end)

    assert parsed(received).status == status
    assert (status == 200) == (b"\nlink: " in received.lower())
    for target in re.findall(rb"(?i)\r\nlink: <([^>]*)>", received):
        assert parsed(await exchange(collector, b"GET " + target + end)).status == 200


async def test_the_walk_skips_nothing_when_new_events_come_in_between(shop: httpx.AsyncClient) -> None:
    first = await shop.get("/api/events", params={"limit": 3, "to": at(60)})
    await post_batch(shop, ndjson(event(message="new", timestamp=at(10))))
    rest = await shop.get(first.links["next"]["url"])

    assert [found["message"] for found in first.json() + rest.json()] == ["5", "4", "3", "2", "1", "0"]


async def test_a_limit_or_offset_out_of_range_is_refused_with_the_range(collector: httpx.AsyncClient) -> None:
    for text in ("0", "-1", "1001", "many", "1.5", "", "٣", "0" * 5_000, "9" * 5_000, "+5", "1e2"):
        pointer, detail = await refusal(collector, urlencode({"limit": text}))
        assert (pointer, "from 1 to 1000" in detail) == ("/limit", True)
    for text in ("-1", "10001", "x", "0" * 20 + "99999"):
        pointer, detail = await refusal(collector, urlencode({"offset": text}))
        assert (pointer, "from 0 to 10000; to go further, follow the Link header" in detail) == ("/offset", True)


async def test_the_caps_are_settings(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_list_limit=5, max_list_offset=7) as client:
        assert (await client.get("/api/events?limit=5&offset=7")).status_code == 200
        assert "from 1 to 5" in (await refusal(client, "limit=6"))[1]
        assert "from 0 to 7" in (await refusal(client, "offset=8"))[1]


async def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(collector: httpx.AsyncClient) -> None:
    pointer, detail = await refusal(collector, "type=deployment")

    assert pointer == "/type"
    for name in ("event_type", "severity", "source", "from", "to", "limit", "offset", "cursor"):
        assert name in detail


async def test_a_value_that_no_event_can_have_is_refused(collector: httpx.AsyncClient) -> None:
    cases = {
        "severity=fatal": "/severity",
        "severity=": "/severity",
        "event_type=%00": "/event_type",
        "source=a%00b": "/source",
        f"event_type=test&event_type={'é' * 51}": "/event_type",
        f"source={'é' * 101}": "/source",
        "from=yesterday": "/from",
        "to=": "/to",
        "to=12:00": "/to",
        "from=0001-01-01T00:00:00%2B10:00": "/from",
        "to=9999-12-31T23:59:59-10:00": "/to",
    }
    found = {query: (await refusal(collector, query))[0] for query in cases}

    assert found == cases


async def test_times_at_the_ends_of_the_calendar_are_taken(shop: httpx.AsyncClient) -> None:
    wanted = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z", "source": "ci"}

    assert await listed(shop, **wanted) == ["5", "1", "0"]


async def test_a_cursor_that_is_none_or_of_another_filter_is_refused(shop: httpx.AsyncClient) -> None:
    answer = await shop.get("/api/events", params={"limit": 1, "event_type": "deployment"})
    token = httpx.URL(answer.links["next"]["url"]).params["cursor"]
    forged = cursor.encode(cursor.Position(datetime.fromisoformat("0001-01-01T00:00:00+10:00"), 1), Filter())

    for text in (token[:-4], token + "AAAA", "x", "!!!", "A" * 10_000, "é", forged):
        _, detail = await refusal(shop, urlencode({"cursor": text, "event_type": "deployment"}))
        assert detail.startswith("cursor is malformed"), text[:40]
    other = await shop.get("/api/events", params={"cursor": token, "event_type": "test"})
    assert (other.status_code, other.json()["code"]) == (422, "cursor_mismatch")
    assert "use the same filter for all pages" in other.json()["detail"]


async def test_a_list_that_takes_too_long_is_told_how_to_narrow_it(settings: Settings, serve: Serve) -> None:
    async with serve(settings, read_deadline_s=2.0) as client, connected(settings.dsn) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE system_events IN ACCESS EXCLUSIVE MODE")  # every read takes for ever
            answer = await client.get("/api/events?source=web")

        assert (answer.status_code, answer.json()["code"]) == (422, "query_too_broad")
        assert "`from` and `to`" in answer.json()["detail"]
        assert (await client.get("/api/events?source=web")).status_code == 200


events = st.lists(
    st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(["a", "b", "c"]),
            "severity": st.sampled_from(SEVERITIES),
            "message": st.just("m"),
            "source": st.sampled_from([None, "x", "y"]),
            "details": st.sampled_from([None, {"n": 1}, {"n": "1"}, {"n": None}, {"a": [{"n": 1}]}]),
            "timestamp": st.sampled_from([at(0), at(1), "2026-01-02T12:01:00.000001Z", at(-24 * 60), at(-40_000_000)]),
        }
    ),
    min_size=1,
    max_size=25,
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "event_type": st.lists(st.sampled_from(["a", "b", "none"]), min_size=1, max_size=3, unique=True),
        "severity_min": st.sampled_from(SEVERITIES),
        "severity": st.sampled_from(SEVERITIES),
        "source": st.sampled_from(["x", "y"]),
        "details.n": st.sampled_from(["1", "null", "2"]),
        "details.a.0.n": st.just("1"),
        "from": st.sampled_from([at(0), at(1)]),
        "to": st.sampled_from([at(1), at(2)]),
        "id": st.lists(st.integers(0, 24), min_size=1, max_size=8),
    },
)
AT_PATH: dict[tuple[str, str], Any] = {
    ("details.n", "1"): [{"n": 1}, {"n": "1"}],
    ("details.n", "null"): [{"n": None}],
    ("details.n", "2"): [],
    ("details.a.0.n", "1"): [{"a": [{"n": 1}]}],
}
"""Which details a filter wants."""


def matches(row: tuple[Any, ...], wanted: dict[str, Any]) -> bool:
    event_id, event_type, severity, source, moment, details = row
    least = wanted.get("severity", severity), wanted.get("severity_min", "info")
    return (
        event_type in wanted.get("event_type", [event_type])
        and severity == least[0]
        and SEVERITIES.index(severity) >= SEVERITIES.index(least[1])
        and wanted.get("source", source) == source
        and ("from" not in wanted or moment >= datetime.fromisoformat(wanted["from"]))
        and ("to" not in wanted or moment < datetime.fromisoformat(wanted["to"]))
        and ("id" not in wanted or str(event_id) in wanted["id"].split(","))
        and all(details in AT_PATH[item] for item in wanted.items() if item[0].startswith("details."))
    )


@given(sent=events, wanted=filters, limit=st.integers(1, 8))
@hypothesis_settings(max_examples=times(40))
async def test_the_walk_along_the_links_meets_every_matching_event_once_and_in_order(
    settings: Settings, collector: httpx.AsyncClient, sent: list[dict[str, Any]], wanted: dict[str, Any], limit: int
) -> None:
    await started(settings.dsn)
    await sql(settings.dsn, "DELETE FROM system_events WHERE event_type <> 'system_startup'")
    assert (await post_batch(collector, ndjson(*sent))).json()["accepted"] == len(sent)
    columns = 'id, event_type, severity, source, "timestamp", details'
    rows = await sql(settings.dsn, f"SELECT {columns} FROM system_events ORDER BY id")
    rows = [(*row[:-1], msgspec.json.decode(row[-1]) if row[-1] else None) for row in rows]
    if "id" in wanted:  # places among the events, and some ids beyond
        wanted = {**wanted, "id": ",".join(str(rows[n][0] if n < len(rows) else 10**12 + n) for n in wanted["id"])}
    walked: list[int] = []
    url: str | httpx.URL = httpx.URL("/api/events", params={**wanted, "limit": limit})
    while url:
        answer = await collector.get(url)
        page = [found["id"] for found in answer.json()]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
        assert len(page) == limit if url else len(page) <= limit
        walked += page

    rows.sort(key=lambda row: (row[4], row[0]), reverse=True)
    assert walked == [row[0] for row in rows if matches(row, wanted)]


@pytest.mark.parametrize(
    "wanted",
    [{}, {"event_type": ["a", "b"]}, {"severity_min": "error"}, {"details.kept": "true"}],
    ids=["no filter", "two types", "at least errors", "details"],
)
async def test_a_walk_amid_writers_meets_every_event_that_is_there_throughout_exactly_once(
    settings: Settings, serve: Serve, wanted: dict[str, Any]
) -> None:
    """Four writers create and delete all around the events that stay, at their very moments, too."""
    kept = [
        event(event_type="ab"[n % 2], severity=["error", "critical"][n % 3 % 2], details={"kept": True}, message=str(n))
        | {"timestamp": at(n // 3)}
        for n in range(120)
    ]
    done = asyncio.Event()
    turns = asyncio.Semaphore(0)  # else a walk would never meet the end of what is written meanwhile
    written = 0

    async def write(client: httpx.AsyncClient, number: int) -> None:
        nonlocal written
        chance = random.Random(number)
        while not done.is_set():
            await turns.acquire()
            moment = at(chance.randrange(-5, 50))
            passing = event(event_type=chance.choice("ab"), severity="error", details={"kept": True}, message="passing")
            answer = await client.post("/api/events", json={**passing, "timestamp": moment})
            assert answer.status_code == 201
            await post_batch(client, ndjson(*[passing | {"timestamp": at(chance.randrange(-5, 50))}] * 3))
            assert (await client.delete(f"/api/events/{answer.json()['id']}")).status_code == 204
            written += 1

    async with serve(settings) as client, serve(settings) as other:
        await post_batch(client, ndjson(*kept))
        writers = [asyncio.create_task(write((client, other)[n % 2], n)) for n in range(4)]
        for _ in range(2):
            before, met = written, Counter[str]()
            url: str | httpx.URL = httpx.URL("/api/events", params={**wanted, "limit": 7})
            while url:
                for _ in range(2):
                    turns.release()
                answer = await client.get(url)
                met.update(found["message"] for found in answer.json())
                url = answer.links["next"]["url"] if "next" in answer.links else ""
            del met["passing"]
            assert {name: n for name, n in met.items() if name.isdigit()} == {each["message"]: 1 for each in kept}
            assert written > before
        done.set()
        for _ in writers:
            turns.release()
        await asyncio.gather(*writers)


@given(text=st.text(max_size=200) | st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@hypothesis_settings(max_examples=times(40))
async def test_whatever_is_sent_as_a_cursor_is_answered_with_a_clear_error(
    collector: httpx.AsyncClient, text: str
) -> None:
    answer = await collector.get("/api/events", params={"cursor": text})

    if text:
        assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    else:
        assert answer.status_code == 200

"""Exports: complete, in each format, resumed, and never partial with a clean end."""

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.read import export
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import create, event, ndjson, post_batch, sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EXPORT = "/api/events/export"
DAY = datetime(2026, 3, 1, tzinfo=UTC)
SMALL = {"FIRST_PAGE": 7, "LARGEST_PAGE": 11}


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few events be many pages."""
    for name, value in SMALL.items():
        monkeypatch.setattr(export, name, value)


async def store(client: httpx.AsyncClient, n: int, **fields: Any) -> None:
    """Store events, three of each moment."""
    events = [
        event(**{"timestamp": (DAY + timedelta(seconds=i // 3)).isoformat(), "details": {"i": i}, **fields})
        for i in range(n)
    ]
    answer = await post_batch(client, ndjson(*events))
    assert answer.json()["accepted"] == n, answer.text


async def listed(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/api/events", params={"event_type": "test", "limit": 1000, **parameters})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def exported(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get(EXPORT, params={"event_type": "test", **parameters})
    assert answer.status_code == 200, answer.text
    return [msgspec.json.decode(line) for line in answer.content.splitlines()]


@pytest.mark.usefixtures("small_pages")
async def test_an_export_is_the_whole_list(collector: httpx.AsyncClient) -> None:
    await store(collector, 100)
    await store(collector, 20, source="shop")
    assert len(whole := await listed(collector)) == 120
    assert await exported(collector) == whole
    assert await exported(collector, source="shop") == await listed(collector, source="shop")
    for n in (1, 7, 8, 119, 120, 121):  # at the edges of pages, and of the whole
        assert await exported(collector, limit=n) == whole[:n]


@pytest.mark.usefixtures("small_pages")
async def test_json_is_one_array_and_csv_has_a_header(collector: httpx.AsyncClient) -> None:
    await store(collector, 30)
    await create(collector, event_type="odd", message='a "quote", a comma\nand a line', details=None)
    for parameters in ({"event_type": "test"}, {"event_type": "none"}, {}):
        whole = (await collector.get("/api/events", params={**parameters, "limit": 1000})).json()
        answer = await collector.get(EXPORT, params={**parameters, "format": "json"})
        assert answer.json() == whole
        assert answer.headers["content-disposition"] == 'attachment; filename="events.json"'

        answer = await collector.get(EXPORT, params={**parameters, "format": "csv"})
        header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
        assert header == ["id", "timestamp", "severity", "event_type", "source", "message", "details", "created_at"]
        assert [int(row[0]) for row in rows] == [each["id"] for each in whole]
        assert [row[5] for row in rows] == [each["message"] for each in whole]
        assert [row[6] and msgspec.json.decode(row[6]) for row in rows] == [each["details"] or "" for each in whole]


async def test_no_cell_of_csv_is_a_formula(collector: httpx.AsyncClient) -> None:
    attempts = ["=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1", '=HYPERLINK("x")']
    for text in attempts:
        await create(collector, message=text, event_type=text[:50], source=text[:100])
    answer = await collector.get(EXPORT, params={"format": "csv", "severity": "info"})
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    cells = [row[name] for row in rows for name in ("message", "event_type", "source")]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n\uff1d"))]
    assert {f"'{text}" for text in attempts} <= set(cells)


@pytest.mark.usefixtures("small_pages")
async def test_after_goes_on_behind_an_event_that_may_be_gone(collector: httpx.AsyncClient) -> None:
    await store(collector, 60)
    whole = await listed(collector)
    last = whole[24]
    await collector.delete(f"/api/events/{last['id']}")
    await create(collector)  # newer than all: a resumed export does not include it
    assert await exported(collector, after=f"{last['timestamp']}~{last['id']}") == whole[25:]


async def test_who_accepts_gzip_gets_it(collector: httpx.AsyncClient) -> None:
    await store(collector, 300)
    plain = await collector.get(EXPORT, headers={"Accept-Encoding": "identity"}, params={"event_type": "test"})
    assert "content-encoding" not in plain.headers
    async with collector.stream("GET", EXPORT, params={"event_type": "test"}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 4


@pytest.mark.usefixtures("small_pages")
async def test_an_export_that_cannot_go_on_breaks(settings: Settings, serve: Serve) -> None:
    async with serve(settings, read_deadline_s=3.0) as client:
        for _ in range(2):
            await store(client, 60, message="x" * 100_000)
        with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete chunked read|without sending"):
            async with client.stream("GET", EXPORT, headers={"Accept-Encoding": "identity"}) as answer:
                assert answer.status_code == 200
                chunks = answer.aiter_raw()
                await anext(chunks)
                await sql(settings.dsn, "ALTER TABLE system_events RENAME TO elsewhere")
                async for _ in chunks:
                    pass
        await sql(settings.dsn, "ALTER TABLE elsewhere RENAME TO system_events")
        assert len(await exported(client)) == 120


async def test_more_exports_than_may_be_are_told_to_wait(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_exports=1) as client:
        for _ in range(2):
            await store(client, 60, message="x" * 100_000)  # more than the sockets hold
        async with client.stream("GET", EXPORT, headers={"Accept-Encoding": "identity"}):
            answer = await client.get(EXPORT)
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert "BRAIN_COLLECTOR_MAX_EXPORTS" in answer.json()["detail"]

        async def is_free() -> bool:
            return (await client.get(EXPORT, params={"limit": 1})).status_code == 200

        await eventually(is_free, "the export that was left holds no place")
        assert await is_free(), "one that ended holds none"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"format": "xml"}, "format is 'xml', must be one of ndjson, json, csv"),
        ({"after": "17"}, "after is '17'"),
        ({"after": "2026-01-02T00:00:00Z~0"}, "after is"),
        ({"after": "2026-01-02T00:00:00Z~x"}, "after is"),
        ({"after": "2026-01-02T00:00:00Z~99999999999999999999"}, "after is"),
        ({"limit": "1000001"}, "limit is '1000001'"),
        ({"offset": "1"}, "offset is not a parameter here"),
    ],
)
async def test_a_wrong_parameter_is_named(collector: httpx.AsyncClient, parameters: dict[str, str], said: str) -> None:
    answer = await collector.get(EXPORT, params=parameters)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]

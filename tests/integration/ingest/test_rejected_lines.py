"""Rejected lines: kept as they were sent, within limits; expired, listed page by page, purged."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.ingest.rejected_lines import MAX_WAITING, RejectedLine, RejectedLineWriter
from brain_collector.settings import Settings
from brain_events.wire import KEY_HEADER, new_key
from tests.conftest import Serve
from tests.support.collector import event, ndjson, own_events, post_batch, sql
from tests.support.proxy import Fate, proxied
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

BAD = b'{"event_type":"t","severity":"odd","message":"\xff"}'


async def kept(client: httpx.AsyncClient, n: int, path: str = "/api/rejections") -> list[dict[str, Any]]:
    """Return what the quarantine shows once it has n lines."""
    found: list[dict[str, Any]] = []

    async def so_many() -> bool:
        found[:] = (await client.get(path)).json()
        return len(found) == n

    await eventually(so_many, f"{n} lines are kept")
    return found


async def test_a_refused_line_is_kept_as_it_was_sent_with_who_when_where_and_why(collector: httpx.AsyncClient) -> None:
    key, before = new_key(), datetime.now(UTC)
    await post_batch(collector, ndjson(event()) + b"no json\n\n" + BAD + b"\n" + ndjson(event()), key=key)
    bad, no_json = await kept(collector, 2)

    assert (no_json["line"], no_json["line_bytes"], no_json["index"]) == ("no json", 7, 1)
    assert (no_json["code"], no_json["idempotency_key"], no_json["caller"]) == (
        "not_json",
        str(key),
        "open at 127.0.0.1",
    )
    assert "line_base64" not in no_json
    assert (bad["index"], bad["code"]) == (2, "severity_unknown")
    assert bad["detail"].startswith("severity is 'odd', must be one of info, warning, error, critical")
    assert bad["line"] == BAD.decode(errors="replace")
    assert base64.b64decode(bad["line_base64"]) == BAD
    assert before <= datetime.fromisoformat(bad["received_at"]) <= datetime.now(UTC)


async def test_lines_of_a_batch_refused_whole_and_single_events_are_kept_too(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, b"1\n2\n")
    await kept(collector, 2)
    key = str(new_key())
    await collector.post("/api/events", content=b"{}", headers={"Content-Type": "application/json", KEY_HEADER: key})
    found = await kept(collector, 3)

    assert [(each["line"], each["index"], each["code"]) for each in found] == [
        ("{}", None, "field_missing"),
        ("2", 1, "not_an_object"),
        ("1", 0, "not_an_object"),
    ]
    assert found[0]["idempotency_key"] == key


@pytest.mark.parametrize("others", [0, 2, 300])
async def test_a_row_that_postgres_refuses_is_kept_as_the_event_it_was(
    collector: httpx.AsyncClient, settings: Settings, others: int
) -> None:
    await sql(settings.dsn, "ALTER TABLE system_events ALTER message TYPE varchar(1000)")
    sent = event(message="m" * 1_001, details={"n": 1}, source="s", timestamp="2026-01-02T03:04:05Z")
    await post_batch(collector, ndjson(*[event()] * others, sent))
    (found,) = await kept(collector, 1)

    assert (found["code"], found["index"]) == ("not_storable", others)
    assert httpx.Response(200, content=found["line"]).json() == sent


async def test_a_batch_that_comes_again_keeps_nothing_more_and_a_good_one_nothing(
    collector: httpx.AsyncClient,
) -> None:
    key = new_key()
    for _ in range(3):
        await post_batch(collector, ndjson(event()) + b"bad", key=key)
        await post_batch(collector, ndjson(event()))
    await post_batch(collector, b"last")

    assert [each["line"] for each in await kept(collector, 2)] == ["last", "bad"]


async def test_only_the_beginning_of_a_long_line_is_kept(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_rejected_line_bytes=10) as client:
        await post_batch(client, b"x" * 1_000)
        (found,) = await kept(client, 1)

    assert (found["line"], found["line_bytes"]) == ("x" * 10, 1_000)


async def test_pages_follow_the_link_and_show_every_line_once(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, b"".join(b"%d\n" % n for n in range(25)))
    await kept(collector, 25)
    path, seen = "/api/rejections?limit=10", []
    while path:
        answer = await collector.get(path)
        seen.append([each["line"] for each in answer.json()])
        path = answer.links["next"]["url"] if "next" in answer.links else ""

    assert seen == [[str(n) for n in range(start, max(start - 10, -1), -1)] for start in (24, 14, 4)]


async def test_lines_are_narrowed_by_code_and_time_and_purged_alike(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    await post_batch(collector, b"old\n[]\n{}\n")
    await kept(collector, 3)
    await sql(settings.dsn, "UPDATE rejected_lines SET received_at = received_at - interval '1 day' WHERE line = 'old'")
    noon = (datetime.now(UTC) - timedelta(hours=12)).isoformat().replace("+00:00", "Z")

    async def lines(narrowed: str) -> list[str]:
        return [each["line"] for each in (await collector.get(f"/api/rejections?{narrowed}")).json()]

    assert await lines("code=not_an_object") == ["[]"]
    assert await lines(f"from={noon}") == ["{}", "[]"]
    assert await lines(f"to={noon}") == ["old"]
    assert (await collector.get("/api/rejections?cod=1")).status_code == 422
    assert (await collector.delete(f"/api/rejections?before={noon}")).json() == {"deleted": 1}
    assert await lines("") == ["{}", "[]"]
    assert (await collector.delete("/api/rejections?code=not_an_object")).json() == {"deleted": 1}
    assert await lines("") == ["{}"]
    assert (await collector.delete("/api/rejections")).json() == {"deleted": 1}
    assert await lines("") == []


async def test_the_oldest_go_first_beyond_the_bounds_of_rows_and_bytes(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_rejected_lines=5) as client:
        await post_batch(client, b"".join(b"%d\n" % n for n in range(12)))
        assert [each["line"] for each in await kept(client, 5)] == ["11", "10", "9", "8", "7"]
    async with serve(settings, max_rejected_bytes=100) as client:
        await post_batch(client, b"\n".join([b"x" * 40] * 4))

        async def trimmed() -> bool:
            return await sql(settings.dsn, "SELECT length(line) FROM rejected_lines") == [(40,), (40,)]

        await eventually(trimmed, "the oldest have gone")


async def test_lines_are_let_go_after_their_life(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        await post_batch(client, b"old\nyoung\n")
        await kept(client, 2)
    aged = "UPDATE rejected_lines SET received_at = now() - make_interval(days => $2, mins => $3) WHERE line = $1"
    await sql(settings.dsn, aged, b"old", settings.rejected_life_days, 5)
    await sql(settings.dsn, aged, b"young", settings.rejected_life_days, -5)
    async with serve(settings) as client:
        assert [each["line"] for each in (await client.get("/api/rejections")).json()] == ["young"]


async def test_none_is_kept_when_it_is_turned_off(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_rejected_lines=0) as client:
        await post_batch(client, ndjson(event()) + b"bad")

    assert await sql(settings.dsn, "SELECT FROM rejected_lines") == []


async def test_what_waits_when_the_collector_stops_is_still_written(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        await post_batch(client, b"last")

    assert await sql(settings.dsn, "SELECT line FROM rejected_lines") == [(b"last",)]


async def test_a_flood_is_dropped_beyond_what_may_wait_and_counted(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        answer = await post_batch(client, ndjson(event()) + b"bad\n" * 5_000)
        assert (answer.status_code, answer.json()["rejected"]) == (200, 5_000)

        async def counted() -> bool:
            return bool(await own_events(settings.dsn, "rejections_dropped"))

        await eventually(counted, "what was dropped is counted")
        assert await own_events(settings.dsn, "rejections_dropped") == [{"count": 5_000 - MAX_WAITING}]


async def test_what_waits_is_bounded_in_bytes_as_well(settings: Settings) -> None:
    dropped: list[int] = []
    quarantine = RejectedLineWriter(settings, dropped.append)
    line = RejectedLine(datetime.now(UTC), None, None, 0, "not_json", "", b"x" * 16_384)
    quarantine.add([line] * 500)
    quarantine.add([line])

    assert sum(dropped) == 501 - 257


async def test_a_portion_whose_answer_was_lost_is_stored_once(settings: Settings) -> None:
    line = RejectedLine(datetime.now(UTC), None, None, 0, "not_json", "", b"x")
    with proxied(settings.dsn) as proxy:
        quarantine = RejectedLineWriter(msgspec.structs.replace(settings, database_url=proxy.url), lambda _n: None)
        quarantine.add([line] * 3)
        proxy.rule = lambda chunk: Fate.CUT if chunk.startswith(b"B") and b"not_json" in chunk else Fate.PASS
        await quarantine.flush()
        await eventually(lambda: has_rows(settings.dsn, 3), "they arrived, though nobody was told")
        proxy.restore()
        await quarantine.close()

    assert await has_rows(settings.dsn, 3)


async def test_a_reason_that_quotes_what_postgres_refuses_is_kept_all_the_same(settings: Settings) -> None:
    quarantine = RejectedLineWriter(settings, lambda _n: None)
    quarantine.add([RejectedLine(datetime.now(UTC), "", None, 0, "not_json", "NUL \0, half \ud800", b"\0\xff")])
    await quarantine.close()

    assert await sql(settings.dsn, "SELECT detail, line FROM rejected_lines") == [("NUL ?, half ?", b"\0\xff")]


async def has_rows(dsn: str, n: int) -> bool:
    return await sql(dsn, "SELECT count(*) FROM rejected_lines") == [(n,)]

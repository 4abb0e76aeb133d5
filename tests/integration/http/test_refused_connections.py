"""Refused connections: each is counted by its reason, and each response has a request id."""

import logging

import httpx
import msgspec
import pytest

from brain_collector.http import connection_limit
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.api.test_metrics import value
from tests.integration.http.test_limits import CHUNKED, FOLLOW, GET, crowd, exchange, parsed, socket_to, to_the_end
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

METRIC = "connections_refused_total"


def id_of(received: bytes) -> str:
    """Return the id of a refusal, which its body repeats."""
    answer = parsed(received)
    found = answer.headers["x-request-id"]
    assert msgspec.json.decode(answer.body)["request_id"] == found != ""
    return found


async def test_a_refusal_at_the_door_is_counted_and_has_an_id_that_the_log_has_too(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brain_collector.http.protocol")
    async with serve(settings, head_deadline_s=0.3, max_head_bytes=2_000) as client:
        sent = {
            "request_malformed": [b"hello\r\n\r\n", CHUNKED + b"zz\r\n\r\n"],
            "head_too_large": [GET[:-2] + b"X: " + b"x" * 2_000 + b"\r\n\r\n"],
            "head_too_slow": [GET[:20]],
        }
        ids = {reason: [id_of(await exchange(client, each)) for each in heads] for reason, heads in sent.items()}
        assert await exchange(client) == b""
        for reason, found in ids.items():
            assert await value(client, METRIC, reason) == len(found)
        assert await value(client, METRIC, "silent") == 1
    logged = {vars(record)["request_id"]: vars(record)["code"] for record in caplog.records}
    assert logged == {id: reason for reason, found in ids.items() for id in found}


@pytest.mark.parametrize("start", [b"GET /livez HTTP/1.1\r\n", CHUNKED[:-2]], ids=["in_the_head", "in_the_body"])
async def test_a_refusal_at_the_door_has_the_id_of_its_request(collector: httpx.AsyncClient, start: bytes) -> None:
    assert id_of(await exchange(collector, start + b"X-Request-ID: mine-1\r\n\r\nzz\r\n\r\n")) == "mine-1"


async def test_what_is_no_request_has_not_the_id_of_the_one_before(collector: httpx.AsyncClient) -> None:
    async with socket_to(collector) as (reading, sending):
        sending.write(GET[:-2] + b"X-Request-ID: mine-1\r\n\r\n")
        assert b"x-request-id: mine-1" in await reading.readuntil(b"\r\n\r\n")
        await reading.readuntil(b"}")
        sending.write(b"\x16\x03\x01\r\n\r\n")
        assert id_of(await to_the_end(reading)) != "mine-1"


async def test_those_for_whom_there_is_no_room_are_counted(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_connections=2) as client:
        async with (
            crowd(client, 2, FOLLOW),
            httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S) as newcomer,
        ):

            async def is_crowded() -> bool:
                return (await newcomer.get("/api/events")).status_code == 503

            await eventually(is_crowded, "every connection works")
            refused = await newcomer.get("/api/events", headers={"X-Request-ID": "mine-1"})
            assert refused.headers["x-request-id"] == refused.json()["request_id"] == "mine-1"

        async def has_room() -> bool:
            answer = await client.get("/metrics")
            return answer.status_code == 200

        await eventually(has_room, "there is room again")
        assert await value(client, METRIC, "crowded") >= 1
        assert await value(client, "requests_total", "GET", "none", "503") >= 1
        async with crowd(client, 5, b""):

            async def somebody_made_room() -> bool:
                return await value(client, METRIC, "shed") >= 1

            await eventually(somebody_made_room, "those who waited made room")


async def test_who_is_sent_away_unheard_is_counted_and_has_an_id(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(settings, max_connections=2) as client:
        async with (
            crowd(client, 2, FOLLOW),
            httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S) as newcomer,
        ):

            async def is_crowded() -> bool:
                return (await newcomer.get("/api/events")).status_code == 503

            await eventually(is_crowded, "every connection works")
            monkeypatch.setattr(connection_limit, "RESERVE", 0)

            assert parsed(received := await exchange(client)).outcome == (503, "unavailable")
            assert id_of(received) != ""
            monkeypatch.undo()

        async def is_counted() -> bool:
            return (await client.get("/metrics")).status_code == 200 and await value(client, METRIC, "full") >= 1

        await eventually(is_counted, "it is counted")


async def test_heads_that_arrive_in_parts_have_a_maximum_together_and_others_are_served(
    settings: Settings, serve: Serve
) -> None:
    part = GET[:-2] + b"X: " + b"x" * 3_000
    async with serve(settings, max_arriving_head_bytes=10_000, max_head_bytes=8_000, head_deadline_s=600.0) as client:
        async with crowd(client, 8, part) as connections:

            async def are_closed() -> bool:
                return await value(client, METRIC, "heads_too_large") == 5

            await eventually(are_closed, "the oldest were closed")
            answer = await client.get("/livez", headers={"X": "x" * 7_000})
            assert answer.status_code == 200
            reading, sending = connections[-1]
            sending.write(b"\r\n\r\n")
            assert (await reading.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        assert await value(client, METRIC, "heads_too_large") == 5

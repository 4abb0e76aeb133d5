"""The live tail over a WebSocket: the messages of the event stream, and the origins that may open one."""

import asyncio
import base64
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from brain_collector.access.session_cookie import COOKIE
from brain_collector.http.security_headers import SECURITY_HEADERS
from brain_collector.http.websocket_protocol import MAX_MESSAGE_BYTES
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.access.test_session import FOREIGN
from tests.integration.api.test_metrics import value
from tests.integration.http.test_limits import Answer, complaints, exchange, on_linux, parsed, peers_of, socket_to
from tests.integration.tail.test_stream import listening, numbered
from tests.support.collector import event, ndjson, post_batch, transport_of
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

PATH = "/api/events/ws"
KEY = "s3cret-key"
BEARER = {"Authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, query: str = "?source=s", headers: dict[str, str] | None = None
) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{client.base_url.port}{PATH}{query}"
    async with connect(
        url, additional_headers=headers, proxy=None, compression=None, open_timeout=PATIENCE_S, ping_timeout=None
    ) as socket:
        yield socket


async def refused(client: httpx.AsyncClient, query: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Be refused, in the form of all our errors; return with which status and code."""
    with pytest.raises(InvalidStatus) as caught:
        async with opened(client, query, headers):
            pass
    answer = caught.value.response
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    body = json.loads(answer.body or b"")
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return answer.status_code, body["code"]


async def message(socket: ClientConnection) -> dict[str, Any]:
    text = await asyncio.wait_for(socket.recv(), PATIENCE_S)
    assert isinstance(text, str)
    found: dict[str, Any] = json.loads(text)
    assert list(found) == ["event", "id", "data"]
    return found


async def ready(socket: ClientConnection) -> dict[str, Any]:
    found = await message(socket)
    assert (found["event"], found["data"]) == ("ready", None)
    return found


async def events(socket: ClientConnection, n: int) -> tuple[list[dict[str, Any]], str]:
    """Return the next n events and the id of the last message."""
    found: list[dict[str, Any]] = []
    last = ""
    while len(found) < n:
        said = await message(socket)
        assert said["event"] in {"events", "ready", "heartbeat"}
        found += said["data"] or []
        last = said["id"]
    return found, last


async def close_code(socket: ClientConnection) -> int:
    """Read to the end."""
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings, api_key=KEY) as client:
        yield client


# -- what it says


async def test_a_websocket_says_what_the_stream_says(collector: httpx.AsyncClient) -> None:
    async with listening(collector) as tail, opened(collector) as socket, opened(collector, "?source=no") as other:
        await ready(socket)
        await ready(other)
        await post_batch(collector, numbered(1, 2))
        await post_batch(collector, numbered(3))
        found, _ = await events(socket, 3)
        await tail.until(3)
        assert found == tail.events
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.recv(), 0.2)


async def test_it_goes_on_where_one_ended_and_so_does_the_stream(collector: httpx.AsyncClient) -> None:
    async with opened(collector) as socket:
        await ready(socket)
        await post_batch(collector, numbered(1, 2, 3))
        found, last = await events(socket, 3)
    await post_batch(collector, numbered(*range(4, 3_000)))
    async with opened(collector, f"?source=s&last_event_id={last}") as again:
        more, _ = await events(again, 2_996)
        await post_batch(collector, numbered(3_000))
        live, end = await events(again, 1)
    numbers = [each["details"]["number"] for each in [*found, *more, *live]]
    assert numbers == list(range(1, 3_001))
    async with listening(collector, after=last) as tail:
        await tail.until(2_997)
        assert tail.events == [*more, *live]
    await post_batch(collector, numbered(3_001))
    async with listening(collector, after=end) as tail:
        await tail.until(1)
        assert tail.numbers == [3_001]


async def test_silence_is_broken_by_a_heartbeat(settings: Settings, serve: Serve) -> None:
    async with serve(settings, stream_heartbeat_s=0.2) as client, opened(client) as socket:
        await ready(socket)
        beat = await message(socket)
        assert (beat["event"], beat["data"]) == ("heartbeat", None)


async def test_who_leaves_makes_room_at_once_for_a_stream_of_either_kind(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_streams=1, stream_heartbeat_s=3600.0) as client:  # no heartbeat notices
        async with opened(client) as socket:
            await ready(socket)
            assert await refused(client) == (503, "unavailable")
            assert (await client.get("/api/events/stream")).status_code == 503

        async def free() -> bool:
            async with client.stream("GET", "/api/events/stream") as response:
                return response.status_code == 200

        await eventually(free, "there is room again")
        async with AsyncExitStack() as stack:
            await eventually(lambda: opens(stack, client), "there is room again")
            assert (await client.get("/api/events/stream")).status_code == 503


async def opens(stack: AsyncExitStack, client: httpx.AsyncClient) -> bool:
    try:
        await stack.enter_async_context(opened(client))
    except InvalidStatus:
        return False
    return True


async def test_the_upgrade_is_counted_and_has_a_request_id(collector: httpx.AsyncClient) -> None:
    async with opened(collector, headers={"X-Request-ID": "mine"}) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-ID"] == "mine"
        await ready(socket)
    counted = f'brain_collector_requests_total{{method="GET",route="{PATH}",status="101"}} 1.0'

    async def is_counted() -> bool:
        return counted in (await collector.get("/metrics")).text

    await eventually(is_counted, "the WebSocket is counted")


# -- who may


async def test_a_websocket_needs_a_key_that_may_read(
    locked: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    made = await locked.post("/api/keys", json={"name": "n", "scopes": ["ingest"]}, headers=BEARER)
    ingest = {"Authorization": f"Bearer {made.json()['key']}"}
    basic = {"Authorization": "Basic " + base64.b64encode(f"u:{KEY}".encode()).decode()}
    for headers in ({}, {"Authorization": "Bearer wrong"}, basic):
        assert await refused(locked, headers=headers) == (401, "unauthorized"), headers
    assert await refused(locked, headers=ingest) == (403, "forbidden")
    async with opened(locked, headers=BEARER) as socket:
        await ready(socket)
    assert complaints(caplog) == []


async def test_no_page_of_another_site_opens_one(locked: httpx.AsyncClient) -> None:
    own = f"http://127.0.0.1:{locked.base_url.port}"
    await locked.post("/api/session", json={"key": KEY}, headers={"Origin": own})
    session = {"Cookie": f"{COOKIE}={locked.cookies[COOKIE]}"}
    for origin in FOREIGN:
        for key in (session, BEARER):
            headers = key | {"Origin": origin.format(port=locked.base_url.port)}
            assert await refused(locked, headers=headers) == (403, "origin_refused"), headers
    for key in (session, BEARER):
        async with opened(locked, headers=key | {"Origin": own}) as socket:
            await ready(socket)
    assert await refused(locked, headers=session) == (403, "origin_refused")  # a browser would have said
    async with opened(locked, headers=BEARER) as socket:
        await ready(socket)


async def test_no_page_of_another_site_reads_a_collector_without_a_key(collector: httpx.AsyncClient) -> None:
    for origin in FOREIGN:
        headers = {"Origin": origin.format(port=collector.base_url.port)}
        assert await refused(collector, headers=headers) == (403, "origin_refused"), origin
    async with opened(collector, headers={"Origin": f"http://127.0.0.1:{collector.base_url.port}"}) as socket:
        await ready(socket)


async def test_a_name_that_is_not_the_collectors_is_refused(collector: httpx.AsyncClient) -> None:
    for host in ("evil.example", f"evil.example:{collector.base_url.port}"):
        answer = await knock(collector, Host=host)
        assert answer.outcome == (400, "host_refused")


async def test_a_parameter_that_it_has_not_is_refused(collector: httpx.AsyncClient) -> None:
    for query in (
        "?from=2026-01-01T00:00:00Z",
        "?severity=bad",
        "?last_event_id=x",
        "?last_event_id=1-1&last_event_id=",
    ):
        assert await refused(collector, query) == (422, "parameter_invalid"), query


# -- handshakes


def head(query: str = "", /, **changes: str | None) -> bytes:
    fields = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": base64.b64encode(os.urandom(16)).decode(),
    } | changes
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value is not None]
    return f"GET {PATH}{query} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


async def knock(client: httpx.AsyncClient, **changes: str | None) -> Answer:
    return parsed(await exchange(client, head(**changes)))


async def test_what_asks_for_no_websocket_is_told_how_to(collector: httpx.AsyncClient) -> None:
    plain = await collector.get(PATH)
    assert (plain.status_code, plain.json()["code"]) == (426, "upgrade_required")
    assert plain.headers["upgrade"] == "websocket"
    assert plain.headers["sec-websocket-version"] == "13"
    assert (await collector.get(PATH + "?severity=bad")).status_code == 422
    assert (await collector.post(PATH)).status_code == 405
    wrong: list[dict[str, str | None]] = [
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Version": None},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": "short"},
        {"Upgrade": "h2c"},
        {"Content_Length": "0"},
    ]
    for changes in wrong:
        assert (await knock(collector, Connection="Upgrade, close", **changes)).outcome == (426, "upgrade_required")


async def test_a_head_that_the_websockets_parser_does_not_take_is_refused(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await knock(collector, Cookie="x" * 10_000)).outcome == (400, "request_malformed")
    assert complaints(caplog) == []


async def test_who_talks_before_the_answer_is_cut_off(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    frames = b"\x89\x80\x00\x00\x00\x00" * 1_000
    async with socket_to(collector) as (reading, sending):
        sending.write(head() + frames)
        await sending.drain()
        sending.write(frames)
        received = await asyncio.wait_for(reading.read(2**16), PATIENCE_S)
    assert received == b"" or parsed(received).status == 101
    assert complaints(caplog) == []


# -- bounds


async def test_what_a_client_says_is_dropped(collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(collector) as socket:
        await ready(socket)
        for _ in range(50):
            await socket.send("x" * MAX_MESSAGE_BYTES)
            await socket.send(b"\0")
        await socket.send(["part", "", "", "whole"])
        await (await socket.ping())
        await post_batch(collector, numbered(1))
        assert len((await events(socket, 1))[0]) == 1
    assert complaints(caplog) == []


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("x" * (MAX_MESSAGE_BYTES + 1), id="whole"),
        pytest.param(["x" * 1_000] * 5, id="in_parts"),
        pytest.param("x" * 2**24, id="still_sending"),
    ],
)
async def test_a_client_that_says_too_much_at_once_is_closed(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, said: str | list[str]
) -> None:
    async with opened(collector) as socket:
        await ready(socket)
        with suppress(ConnectionClosed):
            await socket.send(said)
        assert await close_code(socket) == 1009
    assert complaints(caplog) == []


@on_linux
async def test_a_client_that_reads_nothing_is_cut_off(settings: Settings, serve: Serve) -> None:
    bounds = {"answer_deadline_s": 0.5, "max_streams": 2, "stream_heartbeat_s": 60.0}  # no ping finds it
    async with serve(settings, **bounds) as client, listening(client) as reads:
        async with socket_to(client) as (reading, sending):
            sending.write(head("?source=s"))
            await reading.readuntil(b'"ready"')
            transport_of(sending).pause_reading()
            _, own_port = sending.get_extra_info("sockname")
            n = 0

            async def is_cut_off() -> bool:
                nonlocal n
                await post_batch(client, numbered(*range(n, n + 500), message="x" * 2_000))
                n += 500
                return own_port not in peers_of(client)

            await eventually(is_cut_off, "the collector has let go of the connection")
            await eventually(lambda: has_room(client), "its place is free")
        await reads.until(n)
    assert reads.numbers == list(range(n))  # nobody else noticed


@on_linux
async def test_a_client_that_answers_no_ping_is_cut_off(settings: Settings, serve: Serve) -> None:
    async with (
        serve(settings, stream_heartbeat_s=0.2, answer_deadline_s=0.2) as client,
        socket_to(client) as (reading, sending),
    ):
        sending.write(head())
        async with asyncio.timeout(PATIENCE_S):
            while await reading.read(2**16):  # it reads, and says nothing
                pass


async def has_room(client: httpx.AsyncClient) -> bool:
    async with client.stream("GET", "/api/events/stream") as response:
        return response.status_code == 200


async def test_a_client_that_pings_and_never_reads_costs_a_bounded_number_of_bytes(
    settings: Settings, serve: Serve
) -> None:
    """Else every ping would leave a pong in memory: the collector stops reading, and the client cannot go on."""
    async with serve(settings) as client, socket_to(client) as (reading, sending):
        sending.write(head())
        await reading.readuntil(b'"ready"')
        transport_of(sending).pause_reading()
        ping = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 2**28:
                sending.write(ping * 2_000)
                sent += len(ping) * 2_000
                await asyncio.wait_for(sending.drain(), 2)
        assert sent < 2**28


async def test_a_slow_client_is_told_of_the_gap(settings: Settings, serve: Serve) -> None:
    async with (
        serve(settings, max_stream_bytes=200_000) as client,
        listening(client) as other,
        socket_to(client) as (reading, sending),
    ):
        sending.write(head("?source=s"))
        await reading.readuntil(b'"ready"')
        transport_of(sending).pause_reading()
        for start in range(0, 20_000, 500):
            await post_batch(client, numbered(*range(start, start + 500), message="x" * 1_000))
        await other.until(20_000)
        transport_of(sending).resume_reading()
        received = b""
        while b'{"event":"gap"' not in received:
            chunk = await asyncio.wait_for(reading.read(2**20), PATIENCE_S)
            assert chunk
            received = received[-100:] + chunk


async def test_websockets_have_places_at_the_door_like_all_connections(settings: Settings, serve: Serve) -> None:
    async with (
        serve(settings, max_connections=3) as client,
        httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S) as newcomer,
    ):
        await client.aclose()
        for _ in range(3):  # each place is given back
            async with AsyncExitStack() as stack:
                for _ in range(3):
                    await eventually(lambda: opens(stack, newcomer), "there is a place")
                assert (await newcomer.get("/api/events")).status_code == 503
                assert (await knock(newcomer)).outcome == (503, "unavailable")
                assert (await newcomer.get("/livez")).status_code == 200

            async def is_served() -> bool:
                return (await newcomer.get("/api/events")).status_code == 200

            await eventually(is_served, "the places are free")


async def test_the_log_does_not_hold_what_a_websocket_asked_for(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(collector, "?details.token=hidden-value") as socket:
        await ready(socket)
        await post_batch(collector, numbered(1))
        await collector.post("/api/events", json=event(details={"token": "hidden-value"}))
        await events(socket, 1)
    own = [record for record in caplog.records if record.name.startswith(("brain_collector", "uvicorn"))]
    assert own
    assert not any("hidden-value" in record.getMessage() for record in own)


async def test_a_response_that_is_not_read_before_an_upgrade_takes_no_memory_for_good(
    collector: httpx.AsyncClient,
) -> None:
    sent = [event(event_type="large", message="x" * 200_000)] * 20
    assert (await post_batch(collector, ndjson(*sent))).status_code == 200
    address = (collector.base_url.host, collector.base_url.port)
    request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"

    async def is_held() -> bool:
        return await value(collector, "answer_bytes") > 0

    async def is_released() -> bool:
        return await value(collector, "answer_bytes") == 0

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)  # noqa: FBT003 - the interface of sockets
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, address)
    await loop.sock_sendall(sock, request.format("/api/events?event_type=large", "").encode())
    assert (await loop.sock_recv(sock, 12)).endswith(b"200")  # the rest is not read
    await eventually(is_held, "the response is held")
    await loop.sock_sendall(sock, request.format("/api/events/ws", upgrade).encode())
    assert (await collector.get("/livez")).status_code == 200  # the upgrade has been received, or is before this
    sock.close()
    await eventually(is_released, "the memory is free again")

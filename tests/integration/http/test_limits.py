"""Limits of connections, requests and responses, tested with raw sockets."""

import asyncio
import gzip
import logging
import re
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from brain_collector.errors import SettingsError
from brain_collector.http.connection_limit import OTHER_FILES, RESERVE, resolve_max_connections
from brain_collector.http.protocol import MAX_REST_BYTES
from brain_collector.http.security_headers import SECURITY_HEADERS
from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, NDJSON
from tests.conftest import Serve
from tests.integration.api.test_metrics import value
from tests.support.collector import collector_process, connected, count_foreign, event, ndjson, post_batch, transport_of
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

MEBIBYTE = 2**20
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = f"POST {BATCH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\n".encode()
FOLLOW = b"GET /api/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Answer(NamedTuple):
    """What a socket got, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> tuple[int, str]:
        return self.status, msgspec.json.decode(self.body)["code"]


def parsed(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, body)


Socket = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def socket_to(client: httpx.AsyncClient) -> AsyncIterator[Socket]:
    reading, sending = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield reading, sending
    finally:
        sending.transport.abort()


async def to_the_end(reading: asyncio.StreamReader) -> bytes:
    """Return what comes until the server ends the connection; fail if it does not."""
    received = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while chunk := await reading.read(2**16):
                received += chunk
    return received


async def exchange(client: httpx.AsyncClient, *sent: bytes) -> bytes:
    """Send, and return all that comes until the server ends the connection."""
    async with socket_to(client) as (reading, sending):
        for part in sent:
            sending.write(part)
            await sending.drain()
        return await to_the_end(reading)


def assert_refused(received: bytes, status: int, code: str) -> None:
    """One answer, in the form of all our errors, and the end of the connection."""
    answer = parsed(received)
    assert answer.outcome == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert {name: answer.headers[name.lower()] for name in SECURITY_HEADERS} == {
        name: value.lower() for name, value in SECURITY_HEADERS.items()
    }
    assert msgspec.json.decode(answer.body)["request_id"] == answer.headers["x-request-id"] != ""


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log says about requests: a slow machine may also have it say that the cache was slow."""
    found = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in found if record.name != "brain_collector.cache.redis"]


# -- what is no request


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"hello\r\n\r\n", id="no_http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http_2"),
        pytest.param(b"GET /livez\r\n\r\n", id="http_0.9"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", id="path_not_ascii"),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", id="no_host"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", id="two_hosts"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", id="folded_header"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n", id="bare_newline"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", id="nul_in_header"),
        pytest.param(
            POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length_and_coding"
        ),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", id="coding_and_length"
        ),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two_lengths"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", id="signed_length"),
        pytest.param(POST + b"Content-Length: " + b"0" * 5_000 + b"3\r\n\r\nabc", id="length_of_5001_digits"),
        pytest.param(
            POST.replace(BATCH_PATH.encode(), b"/api/session") + b"Content-Length: " + b"0" * 19 + b"3\r\n\r\nabc",
            id="length_of_20_digits",
        ),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="coding_besides_chunked"),
        pytest.param(POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked_not_last"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="unknown_coding"),
        pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="space_before_colon"),
        pytest.param(
            POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked_in_1.0"
        ),
        pytest.param(CHUNKED + b"zz\r\n\r\n", id="chunk_size_no_number"),
        pytest.param(CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", id="chunk_longer_than_it_says"),
    ],
)
async def test_what_is_no_request_or_could_be_two_is_refused(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    assert_refused(await exchange(collector, sent), 400, "request_malformed")
    assert complaints(caplog) == []


async def test_an_upgrade_is_answered_in_http_1_and_nothing_after_it_is_taken_for_a_request(
    collector: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for protocol in (b"websocket", b"h2c"):
        head = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        received = await exchange(collector, head + GET)

        assert (parsed(received).status, received.count(b"HTTP/1.1")) == (200, 1)
    assert complaints(caplog) == []


async def test_a_header_after_the_body_does_not_become_one_of_the_request(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    line = ndjson(event())
    body = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" % (len(line), line)
    received = await exchange(collector, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    assert parsed(received).status == 200
    assert await count_foreign(settings.dsn) == 1


# -- heads


async def test_a_head_is_bounded_in_bytes_and_in_headers(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_head_bytes=2_000, max_headers=20) as client:
        fits = GET[:-2] + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 80) for n in range(18)) + b"Connection: close\r\n\r\n"
        assert parsed(await exchange(client, fits)).status == 200
        for sent in (
            GET[:-2] + b"X: " + b"x" * 2_000 + b"\r\n\r\n",
            b"GET /livez?" + b"x" * 2_000 + GET[10:],
            GET[:-2] + b"X: 1\r\n" * 20 + b"\r\n",
            CHUNKED + b"0\r\n" + b"X: 1\r\n" * 20,
        ):
            assert_refused(await exchange(client, sent), 431, "head_too_large")


@on_linux
@pytest.mark.parametrize(
    "start",
    [
        pytest.param(GET[:-2] + b"X-Endless: ", id="header"),
        pytest.param(b"GET /", id="path"),
        pytest.param(CHUNKED + b"0\r\nX-Endless: ", id="trailer"),
        pytest.param(CHUNKED + b"5;endless=", id="chunk_extension"),
    ],
)
async def test_an_endless_head_costs_the_collector_no_memory(database_url: str, start: bytes) -> None:
    with collector_process("--database-url", database_url, "--redis-url", "none") as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S) as client:
            assert (await client.get("/livez")).status_code == 200
            before = peak_kibibytes(process._popen.pid)
            async with socket_to(client) as (reading, sending):
                sending.write(start)
                with suppress(ConnectionError):
                    for _ in range(200):
                        sending.write(b"x" * MEBIBYTE)
                        await sending.drain()
                received = await to_the_end(reading)

            assert peak_kibibytes(process._popen.pid) - before < 20 * 1024
            if received:  # what comes after it may cost the client the answer: it is cut off in the end
                assert_refused(received, 431, "head_too_large")


def peak_kibibytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def test_a_head_has_a_deadline_also_the_second_one_of_a_connection(settings: Settings, serve: Serve) -> None:
    async with serve(settings, head_deadline_s=0.3) as client:
        assert_refused(await exchange(client, GET[:20]), 408, "head_too_slow")
        async with socket_to(client) as (reading, sending):
            sending.write(GET)
            assert b"200 OK" in await reading.readuntil(b"\r\n\r\n")
            await reading.readuntil(b"}")
            sending.write(GET[:20])
            assert_refused(await to_the_end(reading), 408, "head_too_slow")


async def test_a_head_that_drips_is_no_faster(settings: Settings, serve: Serve) -> None:
    async with serve(settings, head_deadline_s=0.3) as client, socket_to(client) as (reading, sending):
        sending.write(GET[:-2])
        dripping = asyncio.create_task(drip(sending, b"X: 1\r\n"))
        assert_refused(await to_the_end(reading), 408, "head_too_slow")
        dripping.cancel()


async def drip(sending: asyncio.StreamWriter, drop: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            sending.write(drop)
            await sending.drain()
            await asyncio.sleep(0.02)


async def test_a_connection_on_which_nothing_is_said_ends_without_a_word(settings: Settings, serve: Serve) -> None:
    async with serve(settings, head_deadline_s=0.3) as client:
        assert await exchange(client) == b""
        assert await exchange(client, b"\r\n") == b""


async def test_a_connection_is_kept_for_its_time_and_no_longer(settings: Settings, serve: Serve) -> None:
    async with serve(settings, keep_alive_s=1) as client:
        received = await exchange(client, GET)

    answer = parsed(received)
    assert (answer.status, "connection" in answer.headers) == (200, False)


# -- one request after the other


async def test_a_request_that_does_not_wait_for_the_answer_before_is_not_looked_at(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    line = ndjson(event())
    post = POST + b"Content-Length: %d\r\n\r\n%b" % (len(line), line)
    for second in (post * 1_000, b"no request\r\n\r\n"):
        received = await exchange(collector, post + second)

        assert received.count(b"HTTP/1.1") == 1
        assert (parsed(received).status, parsed(received).headers["connection"]) == (200, "close")
    assert await count_foreign(settings.dsn) == 2


async def test_a_connection_lasts_when_the_rest_of_an_early_answered_body_comes(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, max_body_bytes=1_000) as client, socket_to(client) as (reading, sending):
        for _ in range(3):
            sending.write(POST + b"Content-Length: 2000\r\n\r\n" + b"x" * 1_000)
            assert b"413" in await reading.readuntil(b"\r\n\r\n")
            await reading.readuntil(b"}")
            sending.write(b"x" * 1_000 + GET)
            assert b"200 OK" in await reading.readuntil(b"\r\n\r\n")
            await reading.readuntil(b"}")


async def test_the_rest_of_an_early_answered_body_is_not_waited_for_forever(settings: Settings, serve: Serve) -> None:
    bounds = {"max_body_bytes": 1_000, "body_deadline_s": 0.3}
    async with serve(settings, **bounds) as client, socket_to(client) as (reading, sending):
        sending.write(POST + b"Content-Length: 2000\r\n\r\n")
        dripping = asyncio.create_task(drip(sending, b"x"))
        assert parsed(await to_the_end(reading)).status == 413
        dripping.cancel()


@on_linux
async def test_a_client_that_does_not_read_its_answer_is_cut_off(settings: Settings, serve: Serve) -> None:
    bounds = {"max_event_bytes": 4 * MEBIBYTE, "max_page_bytes": 64 * MEBIBYTE}  # more than sockets hold
    async with serve(settings, answer_deadline_s=0.3, **bounds) as client:
        for _ in range(8):
            await post_batch(client, ndjson(event(message="x" * 2 * MEBIBYTE)))
        async with socket_to(client) as (_, sending):
            transport_of(sending).pause_reading()
            _, own_port = sending.get_extra_info("sockname")
            sending.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")

            async def is_cut_off() -> bool:
                return own_port not in peers_of(client)

            await eventually(is_cut_off, "the collector has let go of the connection")


def peers_of(client: httpx.AsyncClient) -> set[int]:
    """Return the ports at the other ends of the collector's open connections."""
    here = f":{client.base_url.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[2].partition(":")[2], 16) for line in lines if line[1].endswith(here) and line[3] == "01"}


# -- bodies


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        pytest.param(POST + b"Content-Length: 100000\r\n\r\n", b"x", id="length"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks"),
        pytest.param(CHUNKED + b"5;", b"x", id="chunk_extension"),
    ],
)
async def test_a_body_that_drips_is_given_up_and_its_connection_ended(
    settings: Settings, serve: Serve, head: bytes, drop: bytes
) -> None:
    async with serve(settings, body_stall_s=0.3) as client, socket_to(client) as (reading, sending):
        sending.write(head)
        dripping = asyncio.create_task(drip(sending, drop))
        assert_refused(await to_the_end(reading), 408, "body_too_slow")
        dripping.cancel()


async def test_a_body_that_began_fast_cannot_hold_its_memory_by_dripping(settings: Settings, serve: Serve) -> None:
    async with serve(settings, body_stall_s=0.3, max_pending_bytes=2 * MEBIBYTE) as client:
        async with socket_to(client) as (reading, sending):
            sending.write(POST + b"Content-Length: 2000000\r\n\r\n" + b"x" * 1_999_000)
            dripping = asyncio.create_task(drip(sending, b"x"))
            assert_refused(await to_the_end(reading), 408, "body_too_slow")
            dripping.cancel()
        assert (await post_batch(client, ndjson(event(message="x" * 200_000)))).status_code == 200


async def test_a_body_that_comes_on_has_a_deadline_all_the_same(settings: Settings, serve: Serve) -> None:
    bounds = {"body_deadline_s": 0.6, "body_stall_s": 0.3}
    async with serve(settings, **bounds) as client, socket_to(client) as (reading, sending):
        sending.write(CHUNKED)
        dripping = asyncio.create_task(drip(sending, b"2000\r\n%b\r\n" % (b"x" * 0x2000)))
        assert_refused(await to_the_end(reading), 408, "body_too_slow")
        dripping.cancel()


async def test_a_large_body_must_come_at_a_rate_at_which_it_is_complete_in_time(
    settings: Settings, serve: Serve
) -> None:
    """32 KiB in each `body_stall_s` once were enough to hold the memory of 8 MiB until the deadline."""
    bounds = {"body_deadline_s": 2.0, "body_stall_s": 0.25}
    async with serve(settings, **bounds) as client, socket_to(client) as (reading, sending):
        sending.write(POST + b"Content-Length: 8000000\r\n\r\n")
        dripping = asyncio.create_task(drip(sending, b"x" * 0x2000))
        received = await to_the_end(reading)
        dripping.cancel()
    assert_refused(received, 408, "body_too_slow")
    assert b"less than 1,000,000 bytes of progress in 0.25 s" in received


async def test_a_body_for_a_session_takes_nothing_of_the_memory_for_events(settings: Settings, serve: Serve) -> None:
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with serve(settings, max_pending_bytes=1_000) as client, AsyncExitStack() as stack:
        for _ in range(5):
            reading, sending = await stack.enter_async_context(socket_to(client))
            sending.write(head + b"Expect: 100-continue\r\nContent-Length: 16000\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                assert await reading.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await value(client, "pending_bytes") == 0
        assert (await post_batch(client, ndjson(event()))).status_code == 200


async def test_the_rest_of_a_refused_body_is_read_up_to_a_limit(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        for n_bytes in (MAX_REST_BYTES // 2, 2**22):
            async with socket_to(client) as (reading, sending):
                sending.write(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % n_bytes)
                refusal = await reading.readuntil(b"}")
                assert parsed(refusal).status == 404
                sending.write(b"x" * n_bytes + GET)
                rest = await to_the_end(reading) if n_bytes > MAX_REST_BYTES else await reading.readuntil(b"}")
                assert rest.startswith(b"HTTP/1.1 200") == (n_bytes < MAX_REST_BYTES)
        assert await value(client, "connections_refused_total", "rest_too_large") == 1


async def test_a_length_that_is_announced_and_not_sent_is_held_for_a_moment_only(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, body_stall_s=0.3, max_pending_bytes=2 * MEBIBYTE) as client, AsyncExitStack() as stack:
        for _ in range(10):
            _, sending = await stack.enter_async_context(socket_to(client))
            sending.write(POST + b"Content-Length: 2000000\r\n\r\nx")

        async def taken() -> bool:
            return (await post_batch(client, ndjson(event(message="x" * 200_000)))).status_code == 200

        await eventually(taken, "another body is taken")


async def test_two_encodings_are_refused_in_whatever_way_they_are_written(collector: httpx.AsyncClient) -> None:
    body = gzip.compress(gzip.compress(ndjson(event())))
    for encodings in (b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", b"Content-Encoding: gzip, gzip\r\n"):
        head = POST + encodings + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert parsed(await exchange(collector, head + body)).outcome == (415, "unsupported_media_type")
    inner = await post_batch(collector, body, content_encoding="gzip")
    assert (inner.status_code, inner.json()["code"]) == (422, "batch_invalid")  # what is in it is looked at as it is


# -- who goes away


async def test_clients_that_go_away_leave_nothing_behind(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    line = ndjson(event())
    async with serve(settings, read_connections=1, redis_url="none") as client:
        for _ in range(4):
            await post_batch(client, ndjson(*[event(message="x" * 100_000)] * 8))
        before = await count_foreign(settings.dsn)
        for sent, n_read in (
            (POST + b"Content-Length: 100000\r\n\r\n" + line, 0),
            (CHUNKED + b"%x\r\n%b\r\n" % (len(line), line), 0),
            (b"GET /api/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
            (b"GET /api/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 1),
            (b"GET /api/events/stats HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
            (GET[:30], 0),
        ):
            for _ in range(20):
                async with socket_to(client) as (reading, sending):
                    sending.write(sent)
                    await sending.drain()
                    await reading.read(n_read)
        found = await asyncio.gather(*(client.get("/api/events", params={"limit": n}) for n in range(1, 21)))

        assert {answer.status_code for answer in found} == {200}
        assert await count_foreign(settings.dsn) == before
    assert complaints(caplog) == []


async def test_reads_that_hang_do_not_hold_up_what_comes_in(settings: Settings, serve: Serve) -> None:
    async with (
        serve(settings, read_connections=1, lock_deadline_s=60, read_deadline_s=60) as client,
        connected(settings.dsn) as own,
        own.transaction(),
    ):
        await own.execute("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE")
        hanging = asyncio.create_task(client.get("/api/events/stats"))

        async def hangs() -> bool:
            return bool(await own.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(hangs, "a read waits for the lock")
        answers = await asyncio.gather(*(post_batch(client, ndjson(event())) for _ in range(20)))

        assert {answer.status_code for answer in answers} == {200}
        assert not hanging.done()
        await own.execute("ROLLBACK; BEGIN")
        assert (await hanging).json()["events_by_type"]["test"] <= 20


# -- many connections


@asynccontextmanager
async def crowd(client: httpx.AsyncClient, n: int, sent: bytes) -> AsyncIterator[list[Socket]]:
    """Have n connections on each of which something is sent, and no more."""
    async with AsyncExitStack() as stack:
        sockets = []
        for _ in range(n):
            sockets.append(await stack.enter_async_context(socket_to(client)))
            with suppress(ConnectionError):
                sockets[-1][1].write(sent)
        yield sockets


@on_linux
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="silent"),
        pytest.param(GET[:20], id="half_a_head"),
        pytest.param(CHUNKED + b"1\r\nx\r\n", id="half_a_body"),
    ],
)
async def test_connections_that_wait_make_room_for_those_that_come(
    settings: Settings, serve: Serve, sent: bytes
) -> None:
    async with serve(settings, max_connections=10) as client, crowd(client, 200, sent) as sockets:
        for _ in range(5):
            async with httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S) as newcomer:
                assert (await newcomer.get("/livez")).status_code == 200
                assert (await newcomer.get("/api/events")).status_code == 200

        async def is_bounded() -> bool:
            return len(peers_of(client)) <= 10

        await eventually(is_bounded, "the oldest are gone")
        assert await to_the_end(sockets[0][0]) == b""


async def test_connections_idle_after_an_answer_make_room_too(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_connections=10) as client, crowd(client, 30, GET) as sockets:
        assert parsed(await to_the_end(sockets[0][0])).status == 200
        async with httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S) as newcomer:
            assert (await newcomer.get("/livez")).status_code == 200


async def test_when_every_connection_works_probes_are_answered_and_others_told_to_come_again(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, max_connections=10) as client, crowd(client, 10, FOLLOW):
        newcomer = httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_S)

        async def is_crowded() -> bool:
            return (await newcomer.get("/api/events")).status_code == 503

        await eventually(is_crowded, "every connection works")
        for _ in range(2 * RESERVE):
            refused = await newcomer.get("/api/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert "the connection limit (10, BRAIN_COLLECTOR_MAX_CONNECTIONS) is reached" in refused.json()["detail"]
            assert refused.headers["Retry-After"] == "1"
            assert {name: refused.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
            probe = await newcomer.get("/livez")
            assert (probe.status_code, probe.headers["Connection"]) == (200, "close")
        async with crowd(client, 2 * RESERVE, GET[:20]):  # they take the reserve, and make room again
            assert (await newcomer.get("/livez")).status_code == 200
        await newcomer.aclose()


@on_linux
async def test_a_collector_with_few_files_outlives_more_connections_than_files(database_url: str) -> None:
    with ExitStack() as stack:
        with few_files(256):  # for the child alone
            process = stack.enter_context(collector_process("--database-url", database_url, "--redis-url", "none"))
        async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S) as client, crowd(client, 400, b""):
            assert (await client.get("/livez")).status_code == 200
            answer = await post_batch(client, ndjson(event()))
            assert answer.status_code == 200


@contextmanager
def few_files(n: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_number_of_connections_follows_from_the_limit_of_open_files() -> None:
    with few_files(1_024):
        assert resolve_max_connections(0) == 1_024 - OTHER_FILES - RESERVE
        assert resolve_max_connections(500) == 500
        expected = r"MAX_CONNECTIONS is 1,000, but .* 1,024 files, which allows 864 connections"
        with pytest.raises(SettingsError, match=expected):
            resolve_max_connections(1_000)


async def test_a_reached_connection_limit_is_logged_once_a_minute(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(settings, max_connections=5) as client, crowd(client, 50, b""):
        assert (await client.get("/livez")).status_code == 200

    said: list[Any] = [
        record.getMessage() for record in caplog.records if record.name == "brain_collector.http.connection_limit"
    ]
    assert len(said) == 1
    assert said[0].startswith("the connection limit (5) is reached")

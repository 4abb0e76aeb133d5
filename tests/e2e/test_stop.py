"""A collector that is told to stop while it works, or while its Postgres hangs."""

import asyncio
import gzip
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from brain_collector.read.export import FIRST_PAGE, PAGE_BYTES
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import Process, collector_process, event, ndjson, sql
from tests.support.processor import processor_seconds
from tests.support.proxy import proxied
from tests.support.waiting import PATIENCE_S, wait_until

WAITING = 30
LARGE_BYTES = 96 * 2**20
FAR = {"BRAIN_COLLECTOR_WRITE_DEADLINE_S": "3600", "BRAIN_COLLECTOR_READ_DEADLINE_S": "3600"}
PLAIN = {"Accept-Encoding": "identity"}


@contextmanager
def waiting_requests(url: str, *, one_key: bool) -> Iterator[None]:
    """Have events sent, each with a key, whose answers are still to come."""
    found = re.fullmatch(r"http://(.+):(\d+)", url)
    assert found is not None
    body = msgspec.json.encode(event())
    shared = new_key()
    with ExitStack() as stack:
        for _ in range(WAITING):
            sending = stack.enter_context(socket.create_connection((found[1], int(found[2]))))
            sending.sendall(
                f"POST /api/events HTTP/1.1\r\nHost: {found[1]}\r\nContent-Type: application/json\r\n"
                f"{KEY_HEADER}: {shared if one_key else new_key()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        assert httpx.get(url + "/livez", timeout=PATIENCE_S).status_code == 200  # it came after them
        yield


def exit_code(process: Process) -> int:
    """SIGTERM; return the exit code of a process that ends by itself."""
    process._popen.send_signal(signal.SIGTERM)
    try:
        return process._popen.wait(PATIENCE_S)
    finally:
        process._popen.kill()


@pytest.mark.parametrize("one_key", [False, True], ids=["a_key_each", "one_key_for_all"])
def test_requests_that_wait_for_a_postgres_that_hangs_do_not_keep_the_collector_from_stopping(
    database_url: str, *, one_key: bool
) -> None:
    with (
        proxied(database_url) as proxy,
        collector_process("--database-url", proxy.url, "--redis-url", "none", **FAR) as collector,
    ):
        assert httpx.post(collector.url + "/api/events", json=event(), timeout=PATIENCE_S).status_code == 201
        proxy.freeze()
        with waiting_requests(collector.url, one_key=one_key):
            assert exit_code(collector) == 0


def heard_until(sign: str, parts: Iterator[str]) -> str:
    text = ""
    while sign not in text:
        text += next(parts)
    return text


def test_open_streams_end_whole_and_keep_no_collector_from_stopping(database_url: str) -> None:
    with collector_process("--database-url", database_url, "--redis-url", "none") as collector, ExitStack() as stack:
        streams = [
            stack.enter_context(httpx.stream("GET", f"{collector.url}/api/events/stream?source=s", timeout=PATIENCE_S))
            for _ in range(5)
        ]
        parts = [stream.iter_text() for stream in streams]
        heard = [heard_until("event: ready", part) for part in parts]
        sent = httpx.post(collector.url + "/api/events", json=event(source="s", message="last"), timeout=PATIENCE_S)
        assert sent.status_code == 201
        heard = [text + heard_until('"message":"last"', part) for text, part in zip(heard, parts, strict=True)]
        assert exit_code(collector) == 0
        ends = [text + "".join(part) for text, part in zip(heard, parts, strict=True)]  # a cut would raise
        assert all(text.endswith("\n\n") for text in ends)


def test_open_websockets_are_told_to_come_again_elsewhere(database_url: str) -> None:
    with collector_process("--database-url", database_url, "--redis-url", "none") as collector, ExitStack() as stack:
        url = collector.url.replace("http://", "ws://") + "/api/events/ws?source=s"
        tails = [
            stack.enter_context(connect(url, proxy=None, open_timeout=PATIENCE_S, ping_timeout=None)) for _ in range(5)
        ]
        for tail in tails:
            assert msgspec.json.decode(tail.recv(PATIENCE_S))["event"] == "ready"
        sent = httpx.post(collector.url + "/api/events", json=event(source="s", message="last"), timeout=PATIENCE_S)
        assert sent.status_code == 201
        assert exit_code(collector) == 0
        for tail in tails:
            assert '"message":"last"' in str(tail.recv(PATIENCE_S))
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    tail.recv(PATIENCE_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012


def test_streams_that_nobody_reads_are_cut_off_without_a_word_in_the_log(database_url: str, tmp_path: Path) -> None:
    flags = ("--database-url", database_url, "--redis-url", "none")
    log = tmp_path / "log"
    with collector_process(*flags, log=str(log)) as collector, ExitStack() as stack:
        address = ("127.0.0.1", int(collector.url.rpartition(":")[2]))
        stuck = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
        for each in stuck:
            each.sendall(b"GET /api/events/stream?source=s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for each in stuck:
            ready = b""
            while b"event: ready" not in ready:
                ready += each.recv(1)
        stream = stack.enter_context(
            httpx.stream("GET", f"{collector.url}/api/events/stream?source=s", timeout=PATIENCE_S)
        )
        parts = stream.iter_text()
        heard_until("event: ready", parts)
        for number in range(100):  # in all more than the sockets hold
            body = event(source="s", message=f"{number} " + "x" * 200_000)
            assert httpx.post(collector.url + "/api/events", json=body, timeout=PATIENCE_S).status_code == 201
        heard_until('"message":"99 ', parts)

        assert exit_code(collector) == 0
        for each in stuck:
            each.settimeout(PATIENCE_S)
            with suppress(ConnectionResetError):
                rest = b""
                while part := each.recv(2**20):
                    rest = (rest + part)[-10:]
                assert not rest.endswith(b"0\r\n\r\n")
    assert log.read_text() == ""


def test_an_export_that_waits_for_a_postgres_that_hangs_is_cut_off_without_a_traceback(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with (
        proxied(database_url) as proxy,
        collector_process("--database-url", proxy.url, "--redis-url", "none", log=str(log), **FAR) as collector,
    ):
        lines = ndjson(*[event(message="x" * 100_000)] * (FIRST_PAGE // 2))
        for _ in range(3):
            answer = httpx.post(
                collector.url + BATCH_PATH, content=lines, headers={"Content-Type": NDJSON}, timeout=PATIENCE_S
            )
            assert answer.status_code == 200
        with httpx.stream(
            "GET", f"{collector.url}/api/events/export?event_type=test", headers=PLAIN, timeout=PATIENCE_S
        ) as export:
            raw = export.iter_raw()
            came = len(next(raw))
            proxy.freeze()
            while came < PAGE_BYTES - 200_000:  # the first page ends within an event of its maximum
                came += len(next(raw))
            assert exit_code(collector) == 0
            with pytest.raises(httpx.TransportError):
                list(raw)
    assert "Traceback" not in log.read_text()


def test_who_still_waits_for_a_turn_when_the_collector_stops_is_told_to_come_again(database_url: str) -> None:
    longest = {"BRAIN_COLLECTOR_MAX_PENDING_BYTES": "1000", "BRAIN_COLLECTOR_ADMISSION_WAIT_S": "5"}
    head = (
        "POST /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    with (
        ExitStack() as stack,
        collector_process("--database-url", database_url, "--redis-url", "none", **longest) as collector,
    ):
        address = ("127.0.0.1", int(collector.url.rpartition(":")[2]))
        sending = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
        for each in sending:
            each.sendall(head.encode())
        assert httpx.get(collector.url + "/livez", timeout=PATIENCE_S).status_code == 200  # it came after them

        assert exit_code(collector) == 0
        answers = [each.recv(1_000) for each in sending]
        assert all(answer.startswith(b"HTTP/1.1 503 ") and b"retry-after" in answer.lower() for answer in answers)


def test_the_death_of_a_task_that_others_rely_on_ends_the_process_with_a_failure(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with collector_process("--database-url", database_url, "--redis-url", "none", log=str(log)) as collector:
        with (
            suppress(httpx.TransportError),  # the process ends
            httpx.stream("GET", f"{collector.url}/api/events/stream?source=s", timeout=PATIENCE_S) as stream,
        ):
            parts = stream.iter_text()
            heard_until("event: ready", parts)
            asyncio.run(sql(database_url, "ALTER TABLE epochs ALTER COLUMN epoch TYPE text"))  # the tail compares them
            list(parts)
        assert collector._popen.wait(PATIENCE_S) == 1
    assert "the task 'tail' died; the collector shuts down" in log.read_text()


def test_a_body_that_takes_minutes_to_decode_keeps_no_collector_from_stopping(database_url: str) -> None:
    deep = ",".join(["[" * 30 + "]" * 30] * 300 + ["[" * 40 + "]" * 40])
    line = ndjson(event(details="...")).replace(b'"..."', b'{"a":[%b]}' % deep.encode()) + b"\n"
    body = gzip.compress(line * (LARGE_BYTES // len(line)), 1)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    settings = {
        "BRAIN_COLLECTOR_MAX_INFLATED_BYTES": str(LARGE_BYTES),
        "BRAIN_COLLECTOR_MAX_PENDING_BYTES": str(16 * LARGE_BYTES),
    }
    with (
        collector_process("--database-url", database_url, "--redis-url", "none", **settings) as collector,
        ThreadPoolExecutor(3) as clients,
    ):
        used_s = processor_seconds(collector._popen.pid)

        def send() -> httpx.Response:
            return httpx.post(collector.url + BATCH_PATH, content=body, headers=headers, timeout=PATIENCE_S)

        answers = [clients.submit(send) for _ in range(3)]
        wait_until(lambda: processor_seconds(collector._popen.pid) > used_s + 2, "the bodies are being decoded")
        assert exit_code(collector) == 0
        assert {answer.result(PATIENCE_S).status_code for answer in answers} <= {413, 503}

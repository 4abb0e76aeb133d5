"""What the other side can do: a raw socket that misbehaves, and every answer there is; nothing is lost or doubled."""

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_events import Client
from brain_events._delivery.http import RETRY_AFTER_CAP_S, retry_after_s
from brain_events.wire import BatchAnswer, Event
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Script, Sink, problem
from tests.support.waiting import PATIENCE_S, wait_until

Play = Callable[[socket.socket, bytes], None]
"""What the peer does with a connection, once it has read a request whose receipt would be these bytes."""


def answer_of(status: str, body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *headers, b"Content-Length: %d" % len(body), b"", body])


class Peer:
    """Plays one fault after another, one connection each, then answers as the collector does."""

    def __init__(self, server: socket.socket, plays: list[Play]) -> None:
        self.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.requests: list[tuple[bytes, bytes]] = []
        self.stored: dict[bytes, list[Event]] = {}
        self._server = server
        self._plays = plays

    @property
    def events(self) -> list[Event]:
        return [event for events in self.stored.values() for event in events]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self._meet(connection)

    def _meet(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while line := reader.readline():
            assert line.startswith(b"POST ")
            headers = {}
            while (header := reader.readline().strip()) != b"":
                name, _, value = header.partition(b": ")
                headers[name.lower()] = value
            body = reader.read(int(headers[b"content-length"]))
            key = headers[b"idempotency-key"]
            self.requests.append((key, body))
            plain = gzip.decompress(body) if headers.get(b"content-encoding") == b"gzip" else body
            events = [msgspec.json.decode(line, type=Event) for line in plain.splitlines()]
            receipt = BatchAnswer(len(events), len(events), 0, key in self.stored, [], errors_truncated=False)
            if self._plays:
                self._plays.pop(0)(connection, msgspec.json.encode(receipt))
                return
            self.stored.setdefault(key, events)
            connection.sendall(answer_of("200 OK", msgspec.json.encode(receipt)))


def begin(server: socket.socket, *plays: Play) -> Peer:
    found = Peer(server, list(plays))
    threading.Thread(target=found.serve, daemon=True).start()
    return found


@contextmanager
def peer(*plays: Play) -> Iterator[Peer]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield begin(server, *plays)
        server.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket, _receipt: bytes = b"") -> None:
    """Have the connection end with RST when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_in_the_head(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    reset(connection)


def reset_in_the_body(connection: socket.socket, receipt: bytes) -> None:
    connection.sendall(answer_of("200 OK", receipt)[:-5])
    reset(connection)


def close_unanswered(_connection: socket.socket, _receipt: bytes) -> None: ...


def cut_the_body(connection: socket.socket, receipt: bytes) -> None:
    connection.sendall(answer_of("200 OK", receipt)[:-5])


def cut_a_chunk(connection: socket.socket, receipt: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"%x\r\n" % len(receipt) + receipt[:-5])


def break_a_chunk(connection: socket.socket, receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + receipt)


def say_nothing(connection: socket.socket, _receipt: bytes) -> None:
    """As a peer whose machine has lost power: it has acknowledged the bytes, and is never heard of again."""
    connection.settimeout(PATIENCE_S)
    connection.recv(1)  # until the client gives up


def send_100_mb(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(100):
        connection.sendall(bytes(1024 * 1024))


def send_without_end(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


def send_headers_without_end(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for n in range(1_000_000):
        connection.sendall(b"X-%d: y\r\n" % n)


def claim_gzip(connection: socket.socket, receipt: bytes) -> None:
    connection.sendall(answer_of("200 OK", receipt, b"Content-Encoding: gzip"))


def speak_another_protocol(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"220 smtp.example.com ESMTP ready\r\n")


def switch_protocols(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")


def hint_and_hang_up(connection: socket.socket, _receipt: bytes) -> None:
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")


def receipt_for_another(connection: socket.socket, _receipt: bytes) -> None:
    other = BatchAnswer(7, 7, 0, duplicate=False, errors=[], errors_truncated=False)
    connection.sendall(answer_of("200 OK", msgspec.json.encode(other)))


PLAYS = [
    reset,
    reset_in_the_head,
    reset_in_the_body,
    close_unanswered,
    cut_the_body,
    cut_a_chunk,
    break_a_chunk,
    say_nothing,
    send_100_mb,
    send_without_end,
    send_headers_without_end,
    claim_gzip,
    speak_another_protocol,
    switch_protocols,
    hint_and_hang_up,
    receipt_for_another,
]


@pytest.mark.parametrize("play", PLAYS)
def test_a_batch_outlives_a_peer_that_misbehaves(play: Play) -> None:
    with peer(play, play) as other, fast_client(other.url, interval_s=3600, request_timeout_s=0.5) as client:
        for n in range(3):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 3
        assert client.stats().dropped == {}
    assert len(other.requests) >= 3
    assert [event.message for event in other.events] == ["0", "1", "2"]
    assert [body for key, body in other.requests if key == other.requests[0][0]] == [other.requests[0][1]] * 3


def test_a_kept_connection_whose_peer_has_vanished_is_given_up_for_a_new_one() -> None:
    """A half-open connection takes the request, and never answers."""
    gone = threading.Event()

    def answer_once(connection: socket.socket, receipt: bytes) -> None:
        connection.sendall(answer_of("200 OK", receipt))
        connection.settimeout(PATIENCE_S)
        while connection.recv(65536):
            gone.set()

    with peer(answer_once) as other, fast_client(other.url, request_timeout_s=0.5) as client:
        client.log("a", "info", "answered")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "swallowed at first")
        assert client.flush(PATIENCE_S)
        assert gone.is_set()
    assert [event.message for event in other.events] == ["swallowed at first"]
    assert client.stats().delivered == 2


HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        *[(status, HTML, b"<h1>no</h1>") for status in (300, 301, 302, 303, 307, 308, 304)],
        *[(status, HTML, b"<h1>no</h1>") for status in (400, 401, 402, 403, 404, 405, 410, 413, 415, 418, 422, 451)],
        *[(status, HTML, b"<h1>no</h1>") for status in (408, 409, 425, 429, 500, 501, 502, 503, 504, 507, 511, 599)],
        *[problem(status, "body_undecodable") for status in (401, 403, 404, 408, 409, 425, 429, 500, 503)],
        *[problem(status, "something_new") for status in (400, 413, 415, 422)],
        *[(status, {}, b"") for status in (200, 201, 202, 204, 205, 206)],
        (200, {"Content-Type": "application/json"}, b"[" * 100_000),
        (200, {"Content-Type": "application/json"}, b"\xff\xfe{}"),
    ],
    ids=lambda answer: f"{answer[0]}-{answer[2][:20]!r}",
)
def test_no_answer_but_the_collectors_own_word_ends_a_batch(
    sink: Sink, tmp_path: Path, answer: Script, *, spooled: bool
) -> None:
    sink.always = (answer[0], {"Location": f"{sink.url}/elsewhere"} | answer[1], answer[2])
    spool_dir = str(tmp_path / "spool") if spooled else None
    with fast_client(sink.url, spool_dir=spool_dir) as client:
        client.log("a", "info", "kept")
        wait_until(lambda: len(sink.requests) >= 5)
        figures = client.stats()
        assert (figures.delivered, figures.rejected, figures.dropped) == (0, 0, {})
        assert figures.spooled + figures.in_memory == 1
        sink.always = None
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
    assert {request.path for request in sink.requests} == {"/api/events/batch"}  # no redirect was followed
    assert len({(request.key, request.body) for request in sink.requests}) == 1
    assert len(sink.events) == 1


def test_a_collector_that_fails_on_every_other_request_gets_every_event_once(sink: Sink) -> None:
    faults = [(500, {}, b""), (429, {"Retry-After": "0"}, b""), (502, HTML, b"<h1>Bad Gateway</h1>"), (408, {}, b"")]

    def flap(_request: object) -> Script | None:
        return faults[len(sink.requests) // 2 % 4] if len(sink.requests) % 2 else None

    sink.answer_to = flap
    with fast_client(sink.url, interval_s=0.001) as client:
        for n in range(200):
            client.log("a", "info", str(n))
            if n % 5 == 0:
                assert client.flush(PATIENCE_S)
        assert client.flush(PATIENCE_S)
    assert [event.message for event in sink.events] == [str(n) for n in range(200)]
    assert len(sink.requests) >= 2 * len(sink.stored)


@pytest.mark.parametrize("on_disk", [False, True])
def test_of_a_batch_that_is_too_large_only_the_event_that_is_too_large_is_refused(
    sink: Sink, tmp_path: Path, *, on_disk: bool
) -> None:
    def too_large(request: object) -> Script | None:
        return problem(413, "body_too_large") if b"huge" in b"".join(map(message_of, request.events)) else None  # type: ignore[attr-defined]

    def message_of(event: Event) -> bytes:
        return event.message.encode()

    sink.answer_to = too_large
    sink.always = (503, {}, b"") if on_disk else None
    spool_dir = str(tmp_path / "spool") if on_disk else None
    with fast_client(sink.url, interval_s=3600, spool_dir=spool_dir) as client:
        for n in range(50):
            client.log("a", "info", "huge" if n == 33 else str(n))
        client.flush(0.2 if on_disk else 20)
        sink.always = None
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().rejected, client.stats().dropped) == (49, 1, {})
    assert [int(event.message) for event in sink.events] == [n for n in range(50) if n != 33]


def test_a_wrong_key_costs_nothing_until_a_restart_with_the_right_one(sink: Sink, tmp_path: Path) -> None:
    def guard(request: object) -> Script | None:
        allowed = request.headers.get("authorization") == "Bearer right"  # type: ignore[attr-defined]
        return None if allowed else problem(401, "unauthorized")

    sink.answer_to = guard
    script = """
        import time, brain_events
        brain_events.init()
        for n in range({first}, {first} + 50):
            brain_events.log_system_event("a", "info", str(n))
        brain_events.flush({wait})
        while {wait} > 1 and brain_events.stats().spooled: time.sleep(0.01)
    """
    spool = str(tmp_path / "spool")
    for first, wait, key in ((0, 0.1, "wrong"), (50, 0.1, "wrong"), (100, 20, "right")):
        done = run_script(
            script.format(first=first, wait=wait), sink.url, BRAIN_EVENTS_API_KEY=key, BRAIN_EVENTS_SPOOL_DIR=spool
        )
        assert "were lost" not in done.stderr
    assert sorted(int(event.message) for event in sink.events) == list(range(150))
    assert len(sink.stored) == len({request.key for request in sink.requests})


@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z]{3}, ?\d+ [A-Za-z]{3} [-+0-9: ]{4,24}( GMT)?", fullmatch=True)))
def test_whatever_retry_after_says_it_is_a_number_within_an_hour(header: str) -> None:
    assert 0.0 <= retry_after_s(header) <= RETRY_AFTER_CAP_S


@pytest.mark.parametrize("header", ["-1", "1e9", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "\x01", "nan", "inf"])
def test_a_retry_after_that_makes_no_sense_does_not_hold_up_delivery(sink: Sink, header: str) -> None:
    sink.answers.append((503, {"Retry-After": header}, b""))
    with fast_client(sink.url) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert len(sink.events) == 1


# The way there.


def test_a_host_that_answers_no_syn_is_given_up_in_time_and_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, fast_client_of(server) as client:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # with these the queue is full: the kernel drops what else comes
            each.settimeout(0)
            each.connect_ex(server.getsockname())
        client.log("way", "info", "")
        assert not client.flush(1)
        assert client.stats().in_memory == 1
        for each in waiting:
            each.close()
        found = begin(server)
        assert client.flush(PATIENCE_S)
        assert [event.event_type for event in found.events] == ["way"]
        server.shutdown(socket.SHUT_RDWR)


def fast_client_of(server: socket.socket) -> Client:
    return fast_client(f"http://127.0.0.1:{server.getsockname()[1]}", request_timeout_s=0.3)


def test_a_proxy_that_is_down_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with fast_client(proxy=f"http://127.0.0.1:{port}") as client:
        client.log("way", "info", "")
        assert not client.flush(0.3)
        with socket.create_server(("127.0.0.1", port)) as server:
            found = begin(server)
            assert client.flush(PATIENCE_S)
            assert [event.event_type for event in found.events] == ["way"]
            server.shutdown(socket.SHUT_RDWR)


def test_a_name_that_is_looked_up_slowly_costs_only_time(sink: Sink) -> None:
    done = run_script(
        """
        import socket, time
        look_up = socket.getaddrinfo
        socket.getaddrinfo = lambda *args, **more: (time.sleep(1), look_up(*args, **more))[1]
        import brain_events
        brain_events.init()
        for n in range(100):
            brain_events.log_system_event("way", "info", str(n))
        print(brain_events.flush(120), brain_events.stats().delivered)
        """,
        sink.url.replace("127.0.0.1", "localhost"),
    )
    assert done.stdout == "True 100\n", done.stderr


# The application meanwhile.


def test_logging_may_be_configured_anew_while_events_are_sent(sink: Sink) -> None:
    done = run_script(
        """
        import logging, logging.config, threading
        import brain_events
        brain_events.init(interval_s=0.01)
        handler = {"class": "brain_events.stdlib.EventsHandler"}
        root = {"handlers": ["events"], "level": "INFO"}
        config = {"version": 1, "disable_existing_loggers": False, "handlers": {"events": handler}, "root": root}
        def log():
            for n in range(2000):
                brain_events.log_system_event("direct", "info", str(n))
        threads = [threading.Thread(target=log) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(100):
            logging.config.dictConfig(config)
            logging.getLogger("shop").info("%d", n)
        for thread in threads:
            thread.join()
        print(brain_events.flush(120), brain_events.stats().delivered)
        """,
        sink.url,
    )
    assert done.stdout == "True 4100\n", done.stderr


def test_the_workers_of_a_pool_deliver_at_its_end(sink: Sink) -> None:
    done = run_script(
        """
        import multiprocessing, brain_events
        brain_events.init()
        brain_events.log_system_event("pool", "info", "parent")
        def work(n):
            brain_events.log_system_event("pool", "info", str(n))
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.map(work, range(200))
            pool.close()
            pool.join()
        """,
        sink.url,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(event.message for event in sink.events) == sorted(["parent", *map(str, range(200))])


def test_an_event_of_ten_megabytes_is_cut_and_harms_no_other(sink: Sink) -> None:
    with fast_client(sink.url) as client:
        client.log("large", "info", "x" * 10_000_000, {"text": "y" * 10_000_000})
        client.log("small", "info", "")
        assert client.flush(PATIENCE_S)
    assert sorted(event.event_type for event in sink.events) == ["large", "small"]
    assert sum(len(event.message) for event in sink.events) < 300_000

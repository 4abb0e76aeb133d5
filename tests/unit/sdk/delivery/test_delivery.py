"""Delivery over real HTTP: what goes over the wire, and what each answer leads to."""

import gzip
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import msgspec
import pytest

from brain_events import Config
from brain_events._delivery.http import RETRY_AFTER_CAP_S, HTTPTransport, retry_after_s
from brain_events._queue.batch import seal
from brain_events.wire import BATCH_PATH, FINAL_CODES, FORMER_CODES, NDJSON, BatchAnswer, LineError
from tests.support.sdk import fast_client
from tests.support.sink import Sink, problem
from tests.support.waiting import PATIENCE_S, wait_until


def test_a_batch_is_gzipped_ndjson_under_a_uuid7_key(sink: Sink) -> None:
    with fast_client(sink.url, api_key="k3y", source="shop", interval_s=3600) as client:
        client.log("first", "info", "")  # starts the worker
        for n in range(100):
            client.log("order_paid", "info", "paid", {"n": n})
        assert client.flush(PATIENCE_S)
    request = sink.requests[-1]
    assert request.path == BATCH_PATH
    assert request.headers["content-type"] == NDJSON
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["authorization"] == "Bearer k3y"
    assert UUID(request.key).version == 7
    assert gzip.decompress(request.body).endswith(b"\n")
    assert {event.source for event in sink.events} == {"shop"}


def test_a_path_prefix_of_the_url_is_kept(sink: Sink) -> None:
    client = fast_client(f"{sink.url}/prefix/")
    client.log("a", "info", "")
    wait_until(lambda: sink.requests)
    assert not client.close(timeout_s=0)
    assert sink.requests[0].path == f"/prefix{BATCH_PATH}"


def test_one_connection_carries_all_batches(sink: Sink) -> None:
    with fast_client(sink.url) as client:
        for _ in range(5):
            client.log("a", "info", "")
            assert client.flush(PATIENCE_S)
    assert len(sink.requests) == 5
    assert len(sink.connections) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_retried_with_the_same_key_and_bytes(sink: Sink, status: int) -> None:
    sink.answers.extend([(status, {}, b"")] * 3)
    with fast_client(sink.url) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
    assert len(sink.requests) == 4
    assert len({(request.key, request.body) for request in sink.requests}) == 1


def test_an_acknowledgement_lost_on_its_way_leads_to_no_second_event(sink: Sink) -> None:
    sink.answers.append("store and hang up")
    with fast_client(sink.url) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
    assert len(sink.requests) == 2
    assert len({(request.key, request.body) for request in sink.requests}) == 1
    assert len(sink.events) == 1


def test_a_kept_connection_that_has_just_ended_costs_no_failure(sink: Sink) -> None:
    with fast_client(sink.url, retry_base_s=3600, retry_cap_s=3600) as client:
        client.log("stale", "info", "opens the connection")
        assert client.flush(PATIENCE_S)
        sink.answers.append("store and hang up")
        client.log("stale", "info", "meets its end")
        assert client.flush(PATIENCE_S)
    assert [event.message for event in sink.events] == ["opens the connection", "meets its end"]
    assert [len(request.events) for request in sink.requests] == [1, 1, 1]


def test_a_new_connection_that_ends_is_a_failure(sink: Sink) -> None:
    sink.answers.append("store and hang up")
    with fast_client(sink.url, retry_base_s=3600, retry_cap_s=3600) as client:
        client.log("new", "info", "")
        assert not client.flush(0.5)
        assert len(sink.requests) == 1


def test_a_batch_that_is_too_large_is_halved_under_keys_derived_from_its_own(sink: Sink) -> None:
    sink.max_events = 10
    with fast_client(sink.url, interval_s=3600) as client:
        client.log("a", "info", "0")
        assert client.flush(PATIENCE_S)
        for n in range(1, 100):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 100
    assert [event.message for event in sink.events] == [str(n) for n in range(100)]
    assert len(sink.stored) == len({request.key for request in sink.requests if len(request.events) <= 10})
    assert {UUID(key).version for key in sink.stored} == {7}


def test_one_event_that_is_too_large_for_the_collector_is_set_aside(sink: Sink) -> None:
    sink.always = problem(413, "body_too_large")
    with fast_client(sink.url) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().rejected == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "body_undecodable"),
        (415, "unsupported_media_type"),
        (422, "idempotency_key_reused"),
        (422, "batch_too_old"),
        (422, "key_reused"),  # a collector of 0.1.0
    ],
)
def test_a_refusal_for_good_sets_the_batch_aside(sink: Sink, status: int, code: str) -> None:
    assert code in FINAL_CODES | FORMER_CODES
    sink.answers.append(problem(status, code))
    with fast_client(sink.url) as client:
        client.log("a", "info", "refused")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "taken")
        assert client.flush(PATIENCE_S)
        assert (client.stats().rejected, client.stats().delivered) == (1, 1)
    assert [event.message for event in sink.events] == ["taken"]


@pytest.mark.parametrize(
    "answer",
    [
        problem(401, "unauthorized"),
        problem(403, "forbidden"),
        (404, {"Content-Type": "text/html"}, b"<h1>no such page</h1>"),
        (302, {"Location": "/login"}, b""),
        (400, {"Content-Type": "text/html"}, b"<h1>Bad Request</h1>"),
        problem(400, "a code from another service"),
        (200, {"Content-Type": "text/html"}, b"<h1>Welcome to the hotel's network</h1>"),
        (200, {"Content-Type": "application/json"}, b'{"ok":true}'),
        (
            200,
            {"Content-Type": "application/json"},
            b'{"received":7,"accepted":7,"rejected":0,"duplicate":false,"errors":[],"errors_truncated":false}',
        ),
        (
            200,
            {"Content-Type": "application/json"},
            b'{"received":1,"accepted":2,"rejected":-1,"duplicate":false,"errors":[],"errors_truncated":false}',
        ),
        (  # compressed, although the SDK asks for no compression: it could become very large
            200,
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            gzip.compress(
                b'{"received":1,"accepted":1,"rejected":0,"duplicate":false,"errors":[],"errors_truncated":false}'
            ),
        ),
        (204, {}, b""),
    ],
)
def test_an_answer_that_is_not_the_collectors_word_parks_the_batch_until_it_is(
    sink: Sink, answer: tuple[int, dict[str, str], bytes]
) -> None:
    sink.answers.extend([answer] * 3)
    with fast_client(sink.url, interval_s=3600) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
    assert len(sink.requests) == 4
    assert len({(request.key, request.body) for request in sink.requests}) == 1


def test_lines_that_the_collector_refused_count_as_rejected(sink: Sink) -> None:
    errors = [LineError(1, "field_too_long", "event_type is 71 characters, at most 50")]
    receipt = msgspec.json.encode(BatchAnswer(2, 1, 1, duplicate=False, errors=errors, errors_truncated=False))
    with fast_client(sink.url, interval_s=3600) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        sink.answers.append((200, {"Content-Type": "application/json"}, receipt))
        client.log("a", "info", "")
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().rejected) == (2, 1)


def test_a_batch_waits_out_a_retry_after_even_when_the_client_closes(sink: Sink) -> None:
    sink.answers.append((503, {"Retry-After": "3600"}, b""))
    client = fast_client(sink.url)
    client.log("a", "info", "")
    wait_until(lambda: sink.requests)
    assert not client.close(timeout_s=0.2)
    assert len(sink.requests) == 1
    assert client.stats().dropped == {"unsent": 1}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0.0), ("7", 7.0), ("-5", 0.0), ("soon", 0.0), ("1e9", 0.0), ("999999999", RETRY_AFTER_CAP_S), ("", 0.0)],
)
def test_retry_after_is_read_with_caution(header: str | None, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert retry_after_s(soon) == pytest.approx(100, abs=30)


def test_an_answer_that_drips_is_given_up_at_the_deadline() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X: y\r\n" * 100 + b"\r\n{}"

    def drip(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(65536)
            for byte in answer:
                try:
                    peer.send(bytes([byte]))
                except OSError:
                    return
                threading.Event().wait(0.01)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        transport = HTTPTransport(Config(url=f"http://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(Exception, match=r"timed out|in time"):
            transport.send(seal([msgspec.json.encode({})]), timeout_s=0.3)
        transport.close()
        thread.join()

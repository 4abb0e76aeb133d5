"""Answers that are far larger than what was sent for them: pages, searches, exports, readers that do not read.

The events are stored behind the collector's back: its limits on events would refuse most of them today.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from tests.support.memory import growth_of
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

MAX_ANSWER = 16 * 2**20
MAX_GROWTH = 64
"""In MiB, of the collector, by one request."""
QUERY = " or ".join(["needle", *(f"w{n}" for n in range(15))])
LONG_PHRASE = f'needle or "{" ".join("a" * 115)} b"'

STORE = """
    WITH made AS MATERIALIZED (SELECT ({details})::jsonb AS details)
    INSERT INTO system_events (id, event_type, severity, message, details, "timestamp")
    SELECT {first_id} + n, '{name}', 'info', 'm', made.details, now() - n * interval '1 second'
    FROM made, generate_series(1, {n}) AS n
"""
SPREAD = """
    INSERT INTO system_events (id, event_type, severity, message, source, "timestamp")
    SELECT {first_id} + n, repeat('😀', 48) || n % 100, 'info', 'm', repeat('😀', 98) || n % 100,
        timestamptz '{start}' + (n / 100) * interval '1 second'
    FROM generate_series(0, 99999) AS n
"""
INDEX = """
    INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
    SELECT min(id), max(id), min("timestamp"), max("timestamp"), word_hashes(to_tsvector('simple', 'needle'))
    FROM system_events WHERE event_type = '{name}'
"""
ATTACKS = {
    # 270 KB of JSON, 13.6 MB as Postgres prints it.
    "numbers": (8, "jsonb_build_object('a', array_fill(1e308::numeric, ARRAY[43600]), 'b', 'needle')"),
    "long": (400, "jsonb_build_object('a', repeat('x', 255000), 'b', 'needle')"),
    # A pointer of 16 KB to each of 100 texts.
    "pointers": (
        60,
        "jsonb_build_object(repeat('k', 16000), array_fill('needle'::text, ARRAY[100]))",
    ),
    "phrases": (5, "jsonb_build_object('a', repeat('a ', 127000), 'b', 'needle')"),
}


@pytest.fixture(scope="module")
def planted(victim: CollectorProcess) -> CollectorProcess:
    """The victim, with the events of all attacks."""
    for number, (name, (n, details)) in enumerate(ATTACKS.items(), start=1):
        victim.sql(STORE.format(details=details, name=name, n=n, first_id=10_000_000 + 10_000 * number))
        victim.sql(INDEX.format(name=name))
    httpx.get(f"{victim.url}/api/events", params={"event_type": "none", "q": "warm"}, timeout=PATIENCE_S)
    return victim


def test_a_page_ends_before_it_is_too_large_and_its_link_leads_to_the_rest(planted: CollectorProcess) -> None:
    for name in ("numbers", "long"):
        found, path = set[int](), f"/api/events?event_type={name}&limit=1000"
        with httpx.Client(base_url=planted.url, timeout=PATIENCE_S) as client:
            while path:
                with growth_of(planted.pid) as growth:
                    answer = client.get(path)
                assert answer.status_code == 200
                assert 0 < len(answer.content) <= MAX_ANSWER
                assert growth.at_peak <= MAX_GROWTH, name
                found |= {event["id"] for event in answer.json()}
                path = answer.links.get("next", {}).get("url", "")
        assert len(found) == ATTACKS[name][0]


def test_the_list_without_parameters_is_answered(planted: CollectorProcess) -> None:
    with growth_of(planted.pid) as growth:
        answer = httpx.get(f"{planted.url}/api/events", timeout=PATIENCE_S)
    assert answer.status_code == 200
    assert len(answer.content) <= MAX_ANSWER
    assert growth.at_peak <= MAX_GROWTH


@pytest.mark.parametrize("name", ["numbers", "long", "pointers", "phrases"])
def test_a_search_is_bounded_and_others_are_served_meanwhile(planted: CollectorProcess, name: str) -> None:
    query = LONG_PHRASE if name == "phrases" else QUERY
    path = "/api/events?" + urlencode({"event_type": name, "q": query, "limit": 1000})
    with growth_of(planted.pid) as growth, served_meanwhile(planted):
        answer = httpx.get(planted.url + path, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert "matches" in answer.json()[0]
    assert len(answer.content) <= MAX_ANSWER
    assert growth.at_peak <= MAX_GROWTH


@pytest.mark.parametrize("by", ["source", "event_type"])
def test_a_histogram_of_many_values_in_many_buckets_is_bounded(planted: CollectorProcess, by: str) -> None:
    start = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(days=1 if by == "source" else 2)
    planted.sql(SPREAD.format(start=start.isoformat(), first_id=20_000_000 + 1_000_000 * (by == "source")))
    path = "/api/events/histogram?" + urlencode(
        {"from": start.isoformat(), "to": (start + timedelta(seconds=1_000)).isoformat()}
        | {"step": "1s", "by": by, "by_limit": 50}
    )
    with growth_of(planted.pid) as growth:
        answer = httpx.get(planted.url + path, timeout=PATIENCE_S)
    assert answer.json()["total"] == 100_000
    assert growth.at_peak <= MAX_GROWTH


@contextmanager
def served_meanwhile(victim: CollectorProcess) -> Iterator[None]:
    """Expect /livez to answer while the block runs."""
    n, is_over = 0, threading.Event()

    def ask() -> None:
        nonlocal n
        while not is_over.is_set():
            n += httpx.get(f"{victim.url}/livez", timeout=PATIENCE_S).status_code == 200 and not is_over.is_set()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        is_over.set()
        asking.join()
    assert n > 0


def test_one_event_is_sent_whole(planted: CollectorProcess) -> None:
    with growth_of(planted.pid) as growth:
        answer = httpx.get(f"{planted.url}/api/events/10010001", timeout=PATIENCE_S)
    assert len(answer.json()["details"]["a"]) == 43_600
    assert growth.at_peak <= MAX_GROWTH


def test_an_export_reads_large_events_a_few_at_a_time(planted: CollectorProcess) -> None:
    n_bytes = n_events = 0
    url = f"{planted.url}/api/events/export?event_type=long"
    with growth_of(planted.pid) as growth, httpx.stream("GET", url, timeout=PATIENCE_S) as answer:
        for chunk in answer.iter_bytes():
            n_bytes += len(chunk)
            n_events += chunk.count(b"\n")
    assert n_events == ATTACKS["long"][0]
    assert growth.at_peak <= MAX_GROWTH


def test_readers_that_do_not_read_hold_a_bounded_part_of_the_memory(planted: CollectorProcess) -> None:
    address = urlsplit(planted.url)
    head = f"Host: {address.netloc}\r\n\r\n"
    with growth_of(planted.pid) as growth, ExitStack() as stack:
        for n in range(40):
            idle = stack.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            idle.connect((address.hostname, address.port))
            idle.sendall(f"GET /api/events?event_type=long&limit={900 + n} HTTP/1.1\r\n{head}".encode())
        wait_until(lambda: held(planted) > 20 * 2**20, "answers are held")
        assert held(planted) <= 128 * 2**20
        assert httpx.get(f"{planted.url}/livez", timeout=PATIENCE_S).status_code == 200
        assert httpx.get(f"{planted.url}/api/events?event_type=none", timeout=PATIENCE_S).status_code in {200, 503}
    wait_until(lambda: held(planted) == 0, "what was held is released")
    assert growth.at_peak <= 128 + MAX_GROWTH


def held(victim: CollectorProcess) -> float:
    """Return the bytes of answers that are held."""
    lines = httpx.get(f"{victim.url}/metrics", timeout=PATIENCE_S).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("brain_collector_answer_bytes "))

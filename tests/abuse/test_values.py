"""Attacks with values that become more than they are on the wire: numbers of many digits, details of many values."""

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, DETAILS_MAX_VALUES, NDJSON
from tests.support.collector import event, ndjson
from tests.support.memory import growth_of, resident_mebibytes
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

EVENT_BYTES = 256 * 1024
BODY_BYTES = 4 * 2**20
MAX_GROWTH_MIB = 64
LEFT_MIB = 24
PRINTED = "SELECT octet_length(details::text) FROM system_events WHERE event_type = 'attack' ORDER BY id DESC LIMIT 1"


def attack(item: bytes, *, message: bytes = b"m", size: int = EVENT_BYTES) -> bytes:
    """Return an event of at most `size` bytes with one item again and again."""
    head = b'{"event_type":"attack","severity":"info","message":"%b","details":{"a":[' % message
    n = (size - len(head) - 4) // (len(item) + 1)
    return head + b",".join([item] * n) + b"]}}\n"


ATTACKS = {
    "numbers of 309 digits": attack(b"1e308"),
    "numbers of 309 digits, as many as are accepted": attack(b"1e308", size=5_000),
    "numbers that are slow to decode": attack(b"1e290", size=10_000),
    "numbers of 100 digits": attack(b"1e99"),
    "fractions of 308 digits": attack(b"1e-308"),
    "zeros beside text that is replaced": attack(b"0", message=rb"\u0000"),
    "zeros beside text that is replaced, as many as are accepted": attack(b"0", message=rb"\u0000", size=20_000),
    "empty texts": attack(b'""', message=rb"\u0000"),
    "nested arrays": attack(b"[[[[]]]]"),
    "nested arrays, as many as are accepted": attack(b"[[[[]]]]", size=18_000),
    "runs of digits": attack(b'"' + b"0" * 999 + b'"'),
    "bytes that are not UTF-8": attack(b'"\xff\xff\xff\xff"'),
}


@contextmanager
def others_served(victim: CollectorProcess) -> Iterator[None]:
    """Check that another client can store events all the time during the block, and at least one after its start."""
    stop = threading.Event()

    def store() -> int:
        stored = 0
        with httpx.Client(base_url=victim.url, timeout=PATIENCE_S) as client:
            while not (stop.is_set() and stored):
                answer = client.post(BATCH_PATH, content=ndjson(event()), headers={"Content-Type": NDJSON})
                assert answer.status_code == 200, answer.text
                stored += 1
        return stored

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(store)
        try:
            yield
        finally:
            stop.set()
        assert other.result(PATIENCE_S) > 0


@pytest.mark.parametrize("name", ATTACKS)
def test_what_values_become_is_bounded(victim: CollectorProcess, name: str) -> None:
    line = ATTACKS[name]
    body = gzip.compress(line * (BODY_BYTES // len(line)), 1)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    with others_served(victim), growth_of(victim.pid) as growth:
        answer = httpx.post(victim.url + BATCH_PATH, content=body, headers=headers, timeout=PATIENCE_S)

    assert answer.status_code in {200, 422}, answer.text
    assert growth.at_peak <= MAX_GROWTH_MIB
    for (printed,) in victim.sql(PRINTED):
        assert printed <= EVENT_BYTES + 2 * DETAILS_MAX_VALUES  # a space after each comma and colon


LINE = '{"event_type":"t","severity":"info","message":"%s","details":{"a":"%s"}}\n'
LARGEST = {
    "a character of four bytes in each message": LINE % ("m" * 15_000 + "😀", ""),
    "a character of four bytes in details": LINE % ("", "m" * 200_000 + "😀"),
    "events of the maximum size": attack(b'"' + b"0" * 999 + b'"').decode(),
    "small events": LINE % ("m" * 800, ""),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_memory_for_the_largest_body_is_bounded_and_comes_back(victim: CollectorProcess, name: str) -> None:
    line = LARGEST[name].encode()
    body = gzip.compress(line * (Settings().max_inflated_bytes // len(line)), 1)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    with growth_of(victim.pid) as growth:
        answer = httpx.post(victim.url + BATCH_PATH, content=body, headers=headers, timeout=PATIENCE_S)

    assert answer.status_code == 200, answer.text
    assert growth.at_peak <= MAX_GROWTH_MIB
    wait_until(lambda: resident_mebibytes(victim.pid) <= growth.before + LEFT_MIB, "the memory is returned")


def test_an_event_that_would_print_long_is_refused_with_its_own_code(victim: CollectorProcess) -> None:
    bodies = [attack(b"1e300", size=10_000), attack(b"0")]
    answers = [
        httpx.post(
            f"{victim.url}/api/events", content=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S
        )
        for body in bodies
    ]

    codes = [[error["code"] for error in answer.json()["errors"]] for answer in answers]
    assert codes == [["too_many_digits"], ["too_many_values"]]


def test_an_array_of_small_values_is_taken_apart_without_decoding_it(victim: CollectorProcess) -> None:
    body = gzip.compress(b"[[" + b"[]," * (BODY_BYTES // 3) + b"[]]]", 1)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with others_served(victim), growth_of(victim.pid) as growth:
        answer = httpx.post(victim.url + BATCH_PATH, content=body, headers=headers, timeout=PATIENCE_S)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "event_too_large")
    assert growth.at_peak <= MAX_GROWTH_MIB

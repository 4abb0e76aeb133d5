"""Attacks with bodies that take more processor time than their size tells."""

import gzip

import httpx
import pytest

from brain_events.wire import BATCH_PATH, NDJSON
from tests.support.process import CollectorProcess
from tests.support.processor import processor_seconds
from tests.support.waiting import PATIENCE_S

BODY_BYTES = 2 * 2**20
MAX_EVENTS = 10_000
MAX_RATIO = 12
ROUNDS = 4
JSON = "application/json"


def line(*, message: str = "m", severity: str = "info", details: str = "{}", more: str = "") -> bytes:
    fields = f'"event_type":"attack","severity":"{severity}","message":"{message}","details":{details}{more}'
    return f"{{{fields}}}\n".encode()


def values(*items: str) -> str:
    return f'{{"a":[{",".join(items)}]}}'


def members(n: int, start: str = "k") -> str:
    return ",".join(f'"{start}{number:x}":0' for number in range(n))


def chain(n: int) -> str:
    return ",".join(f'"{"_" * number}a":0' for number in range(n))


ORDINARY = line(
    message="no charge for order 1234567",
    severity="error",
    details='{"customer":"c-1234567","order":1234567,"amount":12.5,"currency":"EUR","items":[1,2,3]}',
    more=',"source":"shop","timestamp":"2026-01-01T00:00:00Z"',
)
DEEP = "[" * 30 + "]" * 30
BRACKETS = BODY_BYTES // 2
LINES = {
    "one array that is too deep beside many": line(details=values(*[DEEP] * 300, "[" * 40 + "]" * 40)),
    "many deep arrays": line(details=values(*[DEEP] * 300), message=r"\u0000"),
    "many deep arrays and a number out of range": line(details=values(*[DEEP] * 300, "1e999")),
    "thousands of fields that are unknown": line(more="," + members(22_000)),
    "hundreds of fields that are unknown": line(more="," + members(900)),
    "unknown fields whose names are taken": line(details=f"{{{chain(460)}}}", more="," + chain(460)),
    "escaped backslashes": line(message=r"\u0000" + r"\\a" * 80_000),
    "halves of surrogate pairs": line(message=r"\ud800" * 40_000),
    "numbers with exponents": line(details=values(*["1e20"] * 9_000)),
}
ARRAYS = {
    "an array of brackets": b"[" + b"[" * BRACKETS + b"]" * BRACKETS + b"]",
    "an array of brackets that do not close": b"[" + b"[{" * BRACKETS,
    "an array of arrays that do not close": b"[" + b'["a",' * (BODY_BYTES // 5),
    "an array of pairs of brackets": b"[[" + b"[[]]," * (BODY_BYTES // 5) + b"0]]",
}


def filled(event: bytes) -> bytes:
    return event * min(MAX_EVENTS, BODY_BYTES // len(event))


def processor_time(victim: CollectorProcess, body: bytes, content_type: str) -> float:
    """Return the processor time of the collector for the same body several times."""
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    content = gzip.compress(body, 1)
    before = processor_seconds(victim.pid)
    for _ in range(ROUNDS):
        answer = httpx.post(victim.url + BATCH_PATH, content=content, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code in {200, 400, 422}, answer.text
    return processor_seconds(victim.pid) - before


@pytest.fixture(scope="module")
def ordinary(victim: CollectorProcess) -> float:
    """The processor time for ordinary events, after the first ones."""
    processor_time(victim, filled(ORDINARY), NDJSON)
    return processor_time(victim, filled(ORDINARY), NDJSON)


@pytest.mark.parametrize("name", [*LINES, *ARRAYS])
def test_no_body_takes_many_times_the_processor_time_of_ordinary_events(
    victim: CollectorProcess, ordinary: float, name: str
) -> None:
    body, content_type = (filled(LINES[name]), NDJSON) if name in LINES else (ARRAYS[name], JSON)

    assert processor_time(victim, body, content_type) <= MAX_RATIO * ordinary

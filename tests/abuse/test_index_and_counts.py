"""Events that are expensive for background work: the index and the fold continue, and statistics are served."""

import gzip

import httpx
import msgspec
import pytest

from brain_events.wire import BATCH_PATH, NDJSON
from tests.support.memory import growth_of
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

STRINGS = 80_000
"""Strings of one event: of more, `max_event_bytes` would refuse it."""
HEAVY = 30
TYPES = 12_000
MAX_GROWTH_MIB = 64


def post(collector: CollectorProcess, lines: list[bytes]) -> int:
    """Send a compressed batch; return how many events were accepted."""
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    body = gzip.compress(b"\n".join(lines), 6)
    answer = httpx.post(collector.url + BATCH_PATH, content=body, headers=headers, timeout=PATIENCE_S)
    assert answer.status_code in {200, 422}, answer.text
    accepted = answer.json().get("accepted", 0)
    assert isinstance(accepted, int)
    return accepted


def line(event_type: str, **fields: object) -> bytes:
    return msgspec.json.encode({"event_type": event_type, "severity": "info", "message": "m", **fields})


def test_events_of_very_many_strings_do_not_stop_the_index(victim: CollectorProcess) -> None:
    """Thirty of them, 9 KB, once took longer than any step may: the index stood still for good."""
    accepted = post(victim, [line("strings", details={"a": [""] * STRINGS})] * HEAVY)
    assert accepted in {HEAVY, 0}  # 0: refused at the door
    assert post(victim, [line("plain", message=f"needle{n}") for n in range(2_100)]) == 2_100

    def is_indexed() -> bool:
        waiting = "batches.xid::text::bigint > p.xid OR batches.xid::text::bigint = p.xid AND first_id + n - 1 > p.id"
        ((left,),) = victim.sql(f"SELECT count(*) FROM batches, search_progress AS p WHERE n = {HEAVY} AND ({waiting})")
        return bool(left == 0)

    wait_until(is_indexed, "the events are in the index")
    assert [each["message"] for each in victim.get("/api/events?q=needle77")] == ["needle77"]
    assert victim.get("/health")["failing_jobs"] == []


@pytest.fixture(scope="module")
def crowded(victim: CollectorProcess) -> CollectorProcess:
    """The collector after a burst of events that have a type each."""
    for start in range(0, TYPES, 6_000):
        assert post(victim, [line(f"t{n}", source=f"s{n}") for n in range(start, start + 6_000)]) == 6_000
    return victim


def test_a_journal_of_very_many_types_is_folded_into_few_rows(crowded: CollectorProcess) -> None:
    def is_folded() -> bool:
        ((left,),) = crowded.sql("SELECT count(*) FROM (SELECT FROM event_deltas WHERE event_type ~ '^t[0-9]') AS part")
        return bool(left == 0)

    wait_until(is_folded, "the journal is folded")
    ((types, counted),) = crowded.sql(
        "SELECT count(DISTINCT event_type), sum(n) FROM event_counts "
        "WHERE grain = 'day' AND event_type ~ '^(t[0-9].*)?$'"
    )
    assert types <= 1_001
    assert counted == TYPES
    assert crowded.get("/health")["failing_jobs"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/events/stats",
        "/api/events/stats?severity=info",
        "/api/events/stats?event_type=t11999",
        "/api/events/facets?limit=100",
        "/api/events/histogram?by=event_type&step=1h",
        "/api/events/histogram?by=source&step=5m&by_limit=50",
    ],
)
def test_counts_are_answered_at_any_number_of_types_in_little_memory(crowded: CollectorProcess, path: str) -> None:
    with growth_of(crowded.pid) as growth:
        answer = httpx.get(crowded.url + path, timeout=PATIENCE_S)

    assert answer.status_code == 200, answer.text
    assert len(answer.content) < 2**20  # so it is cached
    assert growth.at_peak <= MAX_GROWTH_MIB
    counts = answer.json()
    if "t11999" in path:
        assert counts["total_events"] == 1
    elif "stats" in path:
        assert len(counts["events_by_type"]) <= 1_000
        assert sum(counts["events_by_type"].values()) + counts["events_of_other_types"] == counts["total_events"]
        assert counts["total_events"] >= TYPES
    else:
        assert counts["total"] >= TYPES

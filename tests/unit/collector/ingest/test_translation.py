"""Events from other programs: other names of severities, timestamps as numbers, unknown fields, arrays."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from brain_collector.errors import BodyUndecodable
from brain_collector.ingest.array import elements, is_array
from brain_collector.ingest.decode import decode_ndjson, decode_one
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.members import add_fields
from brain_collector.ingest.timestamps import timestamp_of
from brain_events._record.event import severity_of
from brain_events.wire import SEVERITIES, SEVERITY_NAMES

LIMITS = Limits(256 * 1024, 32)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

json_values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.lists(st.integers())
names = st.text("ab_", max_size=4)


def line(**fields: Any) -> bytes:
    return json.dumps({"event_type": "t", "severity": "info", "message": "m", **fields}).encode()


@pytest.mark.parametrize("name", SEVERITY_NAMES)
def test_the_collector_and_the_sdk_know_the_same_names(name: str) -> None:
    for spelled in (name, name.upper(), f" {name.title()} "):
        rows = decode_one(line(severity=spelled), LIMITS, NOW)

        assert rows.severities == [severity_of(spelled)] == [SEVERITY_NAMES[name]]
        assert json.loads(rows.details[0] or "{}") == ({} if name in SEVERITIES else {"severity_given": spelled})


@given(st.integers(10**8, 10**11 - 1), st.integers(0, 10**9 - 1), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_a_number_means_the_time_in_the_unit_that_its_size_tells(second: int, ns: int, per_second: int) -> None:
    sent = (second * 10**9 + ns) * per_second // 10**9
    expected = EPOCH + timedelta(microseconds=(2 * sent * 10**6 + per_second) // (2 * per_second))

    assert timestamp_of(str(sent)) == expected
    assert timestamp_of(f"{sent}.0") == expected


@given(st.integers(0, 10**9 - 1))
def test_a_time_is_rounded_alike_in_every_form(ns: int) -> None:
    second = int(NOW.timestamp())
    texts = [f"2026-01-02T03:04:05.{ns:09}Z", f"2026-01-02T03:04:05.{ns:09}", f"{second}{ns:09}"]
    rows = [decode_one(line(timestamp=sent), LIMITS, NOW) for sent in (*texts, second * 10**9 + ns)]

    assert {row.timestamps[0] for row in rows} == {NOW + timedelta(microseconds=(ns + 500) // 1_000)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", EPOCH),
        ("1767323045.5", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("1767323045.1234569", datetime(2026, 1, 2, 3, 4, 5, 123_457, tzinfo=UTC)),
        ("1.767323045e9", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (" 1767323045 ", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (str(10**20), None),
        ("1e999", None),
        ("-0.0", EPOCH),
        ("-1", None),
        ("-1767323045", None),
        ("", None),
        ("٣", None),
    ],
)
def test_a_timestamp_is_read_as_documented(text: str, expected: datetime | None) -> None:
    assert timestamp_of(text) == expected


@example({"a": 1, "_a": 2}, {"a": 3})
@given(st.dictionaries(names, json_values, max_size=4), st.dictionaries(names, json_values, max_size=4))
def test_fields_of_their_own_become_details_and_replace_none(details: dict[str, Any], fields: dict[str, Any]) -> None:
    sent = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    added = json.loads(add_fields(json.dumps(details), sent))

    assert added.items() >= details.items()
    assert len(added) == len(details) + len(fields)
    rest = {name: value for name, value in added.items() if name not in details}
    assert sorted(map(json.dumps, rest.values())) == sorted(map(json.dumps, fields.values()))
    assert all(any(name == "_" * n + field for n in range(9) for field in fields) for name in rest)


def test_an_event_that_is_translated_does_not_count_as_adjusted_and_affects_no_other() -> None:
    shipped = line(severity="ERR", timestamp=1_767_323_045, host="web-1", details={"a": 1.50})
    decoded = decode_ndjson(b"\n".join([line(), shipped, line()]), LIMITS, NOW)

    assert (decoded.errors, decoded.adjusted) == ([], set())
    assert decoded.rows.details == [None, '{"a": 1.5,"host":"web-1","severity_given":"ERR"}', None]
    assert decoded.rows.severities == ["info", "error", "info"]


@given(st.lists(st.recursive(json_values, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=5)))
def test_the_elements_of_an_array_are_found_as_they_were_written(values: list[Any]) -> None:
    written = [json.dumps(value, ensure_ascii=False).encode() for value in values]

    assert list(elements(b" [ " + b" ,\n".join(written) + b" ] ")) == written


@given(st.binary(max_size=50) | st.text('[]{}",\\1 ', max_size=30).map(str.encode))
def test_a_body_that_is_no_array_is_refused_and_nothing_else_happens(body: bytes) -> None:
    try:
        found = list(elements(body))
    except BodyUndecodable:
        return
    assert is_array(body)
    assert all(found)

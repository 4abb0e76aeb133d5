"""Decoding: the fast way and the strict way agree, lines do not touch each other, nothing unstorable gets through."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from brain_collector.counts.journal import deltas_of, hour
from brain_collector.errors import BodyUndecodable, EventInvalid
from brain_collector.ingest.decode import decode_array, decode_changes, decode_ndjson, decode_one
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.validate import validate, validate_changes
from brain_events.wire import SEVERITIES, Event

LIMITS = Limits(256 * 1024, 32)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

text = st.text(max_size=20)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
details = st.none() | st.dictionaries(text, json_value, max_size=4)
moments = st.datetimes(timezones=st.sampled_from([UTC, None]))
events = st.builds(
    Event,
    event_type=st.text(min_size=1, max_size=50),
    severity=st.sampled_from(SEVERITIES),
    message=text,
    details=details,
    source=st.none() | st.text(max_size=100),
    timestamp=st.none() | moments,
)


def encode(event: Event) -> bytes:
    """Return the line as the SDK sends it; integers beyond 64 bits, which it never sends, as JSON allows."""
    try:
        return msgspec.json.encode(event)
    except OverflowError:
        fields = msgspec.to_builtins({**msgspec.structs.asdict(event), "details": None})
        return json.dumps({**fields, "details": event.details}).encode()


def columns(rows: Rows) -> list[list[Any]]:
    """Return the columns with details as what they mean, not as how they are written."""
    types, severities, messages, texts, sources, timestamps = rows
    meant = [None if each is None else json.loads(each) for each in texts]
    return [types, severities, messages, meant, sources, timestamps]


@given(st.lists(events, min_size=1, max_size=6))
def test_every_way_in_leads_to_the_same_columns(sent: list[Event]) -> None:
    lines = [encode(event) for event in sent]
    one_by_one = [columns(decode_one(line, LIMITS, NOW)) for line in lines]
    together = [list(chain.from_iterable(column)) for column in zip(*one_by_one, strict=True)]

    assert columns(decode_ndjson(b"\n".join(lines), LIMITS, NOW).rows) == together
    assert columns(decode_ndjson(b"\r\n".join(lines) + b"\n\n", LIMITS, NOW).rows) == together
    assert columns(decode_array(b"[" + b",".join(lines) + b"]", LIMITS, NOW).rows) == together


@given(events)
def test_an_event_comes_out_as_it_went_in(sent: Event) -> None:
    assume("\0" not in str_of(msgspec.structs.asdict(sent)))
    moment = sent.timestamp or NOW
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    expected = sent.details
    if not datetime(1, 1, 2, tzinfo=UTC) <= moment <= NOW + timedelta(days=1):
        expected = {**(sent.details or {}), "_adjusted_timestamp": moment.isoformat()}
        moment = NOW

    found = columns(decode_one(encode(sent), LIMITS, NOW))
    assert found == [[sent.event_type], [sent.severity], [sent.message], [expected], [sent.source], [moment]]


@given(events)
def test_the_strict_way_agrees_with_the_fast_way(sent: Event) -> None:
    sent.timestamp = None if sent.timestamp is None else min(sent.timestamp.replace(tzinfo=UTC), NOW)
    assume(sent.timestamp is None or sent.timestamp.year > 1)
    line = encode(sent)
    event, written, _ = validate(line, LIMITS)
    meant = None if written is None else json.loads(written)

    strict = [event.event_type, event.severity, event.message, meant, event.source, event.timestamp or NOW]
    assert [column[0] for column in columns(decode_one(line, LIMITS, NOW))] == strict


@pytest.mark.parametrize("number", [5e-324, 2.2e-311, 1.7976931348623157e308])
def test_every_double_is_taken(number: float) -> None:
    line = encode(Event("numbers", "info", "", {"n": number}))
    assert columns(decode_one(line, LIMITS, NOW))[3] == [{"n": number}]


PAIR = re.compile(r"\\ud[89ab]..\\ud[c-f]..")
surrogates = st.text(st.characters(categories=["Cs", "Cc", "Ll", "So"]), max_size=8)
hard_details = st.dictionaries(
    surrogates, st.recursive(surrogates, lambda inner: st.lists(inner, max_size=3)), max_size=3
)


@given(surrogates.filter(bool), surrogates, hard_details, st.booleans())
def test_nothing_that_postgres_refuses_in_text_gets_through(
    event_type: str,
    message: str,
    hard: dict[str, Any],
    ensure_ascii: bool,  # noqa: FBT001
) -> None:
    fields = {"event_type": event_type, "severity": "info", "message": message, "details": hard}
    line = json.dumps(fields, ensure_ascii=ensure_ascii).encode(errors="surrogatepass")
    rows = decode_one(line, LIMITS, NOW)

    stored = "".join([rows.types[0], rows.messages[0], rows.details[0] or ""])
    stored.encode()
    assert "\0" not in stored
    assert "\\u0000" not in (rows.details[0] or "").replace("\\\\", "")
    escapes = PAIR.sub("", (rows.details[0] or "").lower().replace("\\\\", ""))
    assert "\\ud" not in escapes
    meant = json.loads(line) if ensure_ascii else fields  # two halves that are escaped are a whole
    clean = not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in str_of(meant))
    assert ("_adjusted_text" in json.loads(rows.details[0] or "{}")) is not clean


def str_of(value: Any) -> str:
    """Return all text of a value, keys too."""
    if isinstance(value, dict):
        return "".join(key + str_of(item) for key, item in value.items())
    return "".join(map(str_of, value)) if isinstance(value, list) else str(value)


GOOD = b'{"event_type":"t","severity":"info","message":"m"}'
TWO_ON_ONE_LINE = GOOD + b" " + GOOD

bad = st.sampled_from(
    [
        b"no json",
        b"{}",
        b"[]",
        b"7",
        b'{"event_type":"t",',
        b'{"event_type":"","severity":"info","message":"m"}',
        b'{"event_type":"t","severity":"odd","message":"m"}',
        b'{"event_type":"t","severity":"info","message":"m","details":[1]}',
        TWO_ON_ONE_LINE,
        b'{"event_type":"t","severity":"info","message":"\xff"}',
        rb'{"event_type":"t","severity":"info","message":"\ud800"}',
        b'{"event_type":"t","severity":"info","message":"m","details":{"n":1e400}}',
        b'{"event_type":"t","severity":"info","message":"m","details":' + b'{"d":' * 40 + b"1" + b"}" * 41,
        b'{"event_type":"t","severity":"info","message":"' + b"m" * LIMITS.event_bytes + b'"}',
    ]
) | st.binary(min_size=1, max_size=10).filter(lambda line: line.strip() != b"" and b"\n" not in line)


@example([GOOD, TWO_ON_ONE_LINE, GOOD])
@example([b'{"event_type":"t",', GOOD[18:], GOOD])
@given(st.lists(events.map(encode) | bad, min_size=1, max_size=8))
def test_what_a_line_decodes_to_does_not_hang_on_the_other_lines(lines: list[bytes]) -> None:
    alone: dict[int, list[list[Any]]] = {}
    for index, line in enumerate(lines):
        try:
            alone[index] = columns(decode_one(line, LIMITS, NOW))
        except EventInvalid:
            continue
    decoded = decode_ndjson(b"\n".join(lines), LIMITS, NOW)

    assert decoded.received == len(lines)
    assert decoded.indexes == list(alone)
    assert [error.index for error in decoded.errors] == [index for index in range(len(lines)) if index not in alone]
    together = columns(decoded.rows)
    assert [[[column[row]] for column in together] for row in range(len(alone))] == list(alone.values())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_at_all_lead_to_anything_but_rows_or_a_refusal(body: bytes) -> None:
    decoded = decode_ndjson(body, LIMITS, NOW)
    assert len(decoded.indexes) + len(decoded.errors) == decoded.received
    with pytest.raises(EventInvalid):
        decode_one(body, LIMITS, NOW)
    try:
        decoded = decode_array(body, LIMITS, NOW)
    except BodyUndecodable:
        return
    assert len(decoded.errors) == decoded.received


changes = st.fixed_dictionaries(
    {},
    optional={
        "event_type": st.text(min_size=1, max_size=50),
        "severity": st.sampled_from(SEVERITIES),
        "message": text,
        "details": details,
        "source": st.none() | text,
    },
)


@given(changes)
def test_a_change_has_the_fields_that_were_sent_and_no_other(sent: dict[str, Any]) -> None:
    body = json.dumps(sent).encode()
    found, strict = decode_changes(body, LIMITS), validate_changes(body, LIMITS)

    for way in (found, strict):
        if way.get("details") is not None:
            way["details"] = json.loads(way["details"])
    assert found == strict
    assert set(found) == set(sent)
    if "\\u0000" not in body.decode():
        assert found == sent


@given(st.lists(st.tuples(text, st.sampled_from(SEVERITIES), moments), min_size=1, max_size=30))
def test_the_deltas_of_new_events_are_their_counts_by_hour_type_and_severity(
    sent: list[tuple[str, str, datetime]],
) -> None:
    aware = [(kind, severity, moment.replace(tzinfo=moment.tzinfo or UTC)) for kind, severity, moment in sent]
    types, severities, timestamps = (list(column) for column in zip(*aware, strict=True))
    expected: dict[tuple[datetime, str, str], int] = {}
    for kind, severity, moment in aware:
        bucket = (hour(moment), kind, severity)
        expected[bucket] = expected.get(bucket, 0) + 1

    assert deltas_of(types, severities, timestamps) == expected

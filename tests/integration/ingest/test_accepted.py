"""Accepted values: each row of the table in docs/reference/http-api.md, as one line among a thousand."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from brain_collector.settings import Settings
from brain_events._delivery.transport import Response
from brain_events._delivery.verdict import Outcome, judge
from tests.support.collector import count_foreign, event, ndjson, post_batch, sql

pytestmark = pytest.mark.anyio

DOCS = (Path(__file__).parents[3] / "docs/reference/http-api.md").read_text()
TABLE = DOCS.partition("<!-- accepted:")[2].partition("<!-- /accepted -->")[0]
ROWS = [
    [re.sub(r"^`(.*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
    for line in TABLE.strip().splitlines()[3:]
]


def line(**fields: Any) -> bytes:
    return ndjson(event(event_type="poison", **fields))


def raw(details: bytes) -> bytes:
    return line(details={"_": 0}).replace(b'{"_":0}', details)


def at(moment: Any) -> bytes:
    return line(timestamp=moment)


SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

POISON: dict[str, bytes] = {
    "a line that is not JSON": b'{"event_type":\n',
    "a line that is not an object": b"[1]\n",
    "two events on a line": line().strip() + line(),
    "more than `max_event_bytes`": line(message="m" * 300_000),
    "a missing field": b'{"event_type":"poison","severity":"info"}\n',
    "a field of another type": line(message=7),
    "an empty `event_type`": ndjson(event(event_type="")),
    "an `event_type` over 50 characters": ndjson(event(event_type="t" * 51)),
    "a `source` over 100 characters": line(source="s" * 101),
    "an unknown severity": line(severity="odd"),
    "a severity in another case": line(severity="ERROR"),
    "a severity of syslog or of a logging library": line(severity="Emerg"),
    "a severity of syslog as a number": line(severity=3),
    "a severity that is another number": line(severity=40),
    "details that are not an object": line(details=[1]),
    "an unknown field": line(unknown=1),
    "an unknown field with a name that the details have": line(host="web-1", details={"host": "db-1"}),
    "`id` and `created_at`, as a collector returned them": line(id=7, created_at="2026-01-02T03:04:05Z", details={}),
    "NUL in text": line(message="a\0b"),
    "NUL in a details key": line(details={"a\0": 1}),
    "half of a surrogate pair": raw(rb'{"a":"\ud800"}'),
    "bytes that are not UTF-8": raw(b'{"a":"\xff"}'),
    "`collector` as the source, which is reserved": line(source="collector"),
    "NaN": raw(b'{"a":[NaN]}'),
    "Infinity": raw(b'{"n":-Infinity}'),
    "a number with an exponent over 308 or under -324": raw(b'{"n":1e131071}'),
    "a number of more than 1,000 digits": raw(b'{"n":%b}' % (b"7" * 5_000)),
    "numbers that exceed `max_event_bytes` without exponents": raw(b'{"n":[%b]}' % b",".join([b"1e-300"] * 1_000)),
    "an integer beyond 64 bits": raw(b'{"n":123456789012345678901234567890}'),
    "a decimal of many digits": raw(b'{"n":0.1234567890123456789012345678901}'),
    "details deeper than `max_details_depth`": raw(b'{"d":' * 40 + b"1" + b"}" * 40),
    "100,000 levels of nesting": raw(b'{"d":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "more details keys than `max_details_keys`": line(details={str(n): n for n in range(1_001)}),
    "more values than `max_details_values`": line(details={"n": [0] * 10_000}),
    "a details key longer than `max_details_key_chars`": line(details={"a": {"k" * 257: 1}}),
    "a details key that occurs twice": raw(b'{"n":1,"n":2}'),
    "no timestamp": line(),
    "a timestamp without an offset": at("2026-01-02T03:04:05"),
    "a timestamp with nanoseconds": at("2026-01-02T03:04:05.123456501Z"),
    "a leap second": at("2016-12-31T23:59:60.5Z"),
    "more than a day ahead": at((datetime.now(UTC) + timedelta(days=2)).isoformat()),
    "the first day of year 1": at("0001-01-01T00:00:00+00:00"),
    "the end of year 9999": at("9999-12-31T23:59:59.9999999Z"),
    "a year long ago": at("1970-01-01T00:00:00Z"),
    "a day that does not exist": at("2026-02-29T00:00:00Z"),
    "a year beyond 9999": at("10000-01-01T00:00:00Z"),
    "a timestamp in seconds since 1970": at(SINCE.timestamp() + 0.5),
    "a timestamp in milliseconds since 1970": at(int(SINCE.timestamp()) * 1_000 + 1),
    "a timestamp in microseconds since 1970": at(int(SINCE.timestamp()) * 1_000_000 + 1),
    "a timestamp in nanoseconds since 1970, as text": at(f"{int(SINCE.timestamp()) * 1_000_000_000 + 1_999}"),
    "a timestamp that is a negative number": at(-1),
}

STORED: dict[str, tuple[str, Any]] = {
    "NUL in text": ("message", "a\ufffdb"),
    "NUL in a details key": ("details", {"a\ufffd": 1, "_adjusted_text": True}),
    "half of a surrogate pair": ("details", {"a": "\ufffd", "_adjusted_text": True}),
    "bytes that are not UTF-8": ("details", {"a": "\ufffd", "_adjusted_text": True}),
    "`collector` as the source, which is reserved": ("source", "client:collector"),
    "a severity in another case": ("severity", "error"),
    "a severity of syslog or of a logging library": ("(severity, details->>'severity_given')", ("critical", "Emerg")),
    "a severity of syslog as a number": ("(severity, details->>'severity_given')", ("error", "3")),
    "an unknown field": ("details", {"unknown": 1}),
    "an unknown field with a name that the details have": ("details", {"host": "db-1", "_host": "web-1"}),
    "`id` and `created_at`, as a collector returned them": ("details", {}),
    "an integer beyond 64 bits": ("details::text", '{"n": 123456789012345678901234567890}'),
    "a decimal of many digits": ("details::text", '{"n": 0.1234567890123456789012345678901}'),
    "a details key that occurs twice": ("details", {"n": 2}),
    "a timestamp without an offset": ("timestamp", SINCE),
    "a timestamp with nanoseconds": ("timestamp", SINCE.replace(microsecond=123457)),
    "a leap second": ("timestamp", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    "a timestamp in seconds since 1970": ("timestamp", SINCE.replace(microsecond=500_000)),
    "a timestamp in milliseconds since 1970": ("timestamp", SINCE.replace(microsecond=1_000)),
    "a timestamp in microseconds since 1970": ("timestamp", SINCE.replace(microsecond=1)),
    "a timestamp in nanoseconds since 1970, as text": ("timestamp", SINCE.replace(microsecond=2)),
    "a year long ago": ("timestamp", datetime(1970, 1, 1, tzinfo=UTC)),
}
ARRIVED = {"no timestamp", "more than a day ahead", "the first day of year 1", "the end of year 9999"}


def test_the_table_has_a_row_for_each_case_and_no_other() -> None:
    assert [row[0] for row in ROWS] == list(POISON)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
async def test_of_a_thousand_lines_the_one_that_is_hard_costs_itself_at_most(
    collector: httpx.AsyncClient, settings: Settings, row: list[str]
) -> None:
    what, becomes, code, pointer = row
    good = ndjson(event(message="good"))
    before = datetime.now(UTC)
    answer = await post_batch(collector, good * 500 + POISON[what] + good * 499)

    assert answer.status_code == 200, answer.text
    found = answer.json()
    rejected = becomes == "rejected"
    assert (found["received"], found["accepted"], found["rejected"]) == (1_000, 1_000 - rejected, int(rejected))
    assert await count_foreign(settings.dsn) == 1_000 - rejected
    assert [(each["index"], each["code"], each["pointer"]) for each in found["errors"]] == (
        [(500, code, pointer)] if rejected else []
    )
    assert found["adjusted"] == (becomes == "adjusted")
    if rejected:
        return
    details = json.loads((await poison(settings, "details")) or "{}")
    assert {name for name in details if name.startswith("_adjusted")} == ({code} if code else set())
    if code == "_adjusted_timestamp":
        assert moment_sent(POISON[what]).startswith(details[code][:26].removesuffix("+00:00"))
    if what in ARRIVED:
        assert before <= await poison(settings, "timestamp") <= datetime.now(UTC)
    if what in STORED:
        column, expected = STORED[what]
        value = await poison(settings, column)
        assert (json.loads(value) if column == "details" else value) == expected


async def test_the_sdk_counts_each_rejected_event_and_sends_none_again(collector: httpx.AsyncClient) -> None:
    for what in [row[0] for row in ROWS if row[1] == "rejected"]:
        alone = await post_batch(collector, POISON[what])
        beside = await post_batch(collector, POISON[what] + ndjson(event()))
        verdicts = [
            judge(Response(answer.status_code, answer.headers["content-type"], answer.content), count)
            for count, answer in enumerate((alone, beside), start=1)
        ]

        assert [verdict.outcome for verdict in verdicts] == [Outcome.REJECTED, Outcome.SETTLED], what
        assert [(verdict.accepted, verdict.rejected) for verdict in verdicts] == [(0, 1), (1, 1)], what


async def test_numbers_are_kept_exactly_beside_text_that_is_replaced(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    numbers = b'"n":0.1234567890123456789012345678901,"i":123456789012345678901234567890'
    await post_batch(collector, raw(b'{%b,"s":"%b"}' % (numbers, rb"\u0000")))

    details = "(details - 's' - '_adjusted_text')::text"
    assert await poison(settings, details) == (
        '{"i": 123456789012345678901234567890, "n": 0.1234567890123456789012345678901}'
    )


async def poison(settings: Settings, column: str) -> Any:
    ((value,),) = await sql(settings.dsn, f"SELECT {column} FROM system_events WHERE event_type = 'poison'")
    return value


def moment_sent(sent: bytes) -> str:
    (found,) = re.findall(r'"timestamp":"([^"]*)"', sent.decode())
    return str(found)


@pytest.mark.parametrize("key", ["_adjusted_text", "_adjusted_timestamp", "_adjusted_source"])
async def test_an_event_that_is_stored_as_it_was_sent_counts_as_such_whatever_its_details_say(
    collector: httpx.AsyncClient, key: str
) -> None:
    answer = await post_batch(collector, ndjson(event(details={key: True})))

    assert answer.json()["adjusted"] == 0

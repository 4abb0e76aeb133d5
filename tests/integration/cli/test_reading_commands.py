"""`query`, `get`, `stats` and `histogram` against a collector: as its users run them."""

import csv
import io
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from tests.support.collector import command, create, event, ndjson, post_batch

pytestmark = pytest.mark.anyio


async def test_query_lists_what_a_list_has_page_by_page(collector: httpx.AsyncClient) -> None:
    events = [
        event(event_type="many", message=f"m{n}", timestamp=f"2026-03-01T00:{n // 60:02}:{n % 60:02}Z")
        for n in range(1200)
    ]
    await post_batch(collector, ndjson(*events))
    code, out, err = await command(collector, "query", "--type", "many", "--json", "-n", "1100")
    assert (code, err) == (0, "")
    found = [msgspec.json.decode(line) for line in out.splitlines()]
    assert [each["message"] for each in found] == [f"m{n}" for n in range(1199, 99, -1)]


async def test_query_narrows_as_the_list_does(collector: httpx.AsyncClient) -> None:
    await create(collector, message="yes", source="shop", severity="error", details={"user": {"id": 42}})
    await create(collector, message="no", source="shop", severity="error", details={"user": {"id": 43}})
    await create(collector, message="no", source="api", severity="error", details={"user": {"id": 42}})
    await create(collector, message="no", source="shop", details={"user": {"id": 42}})
    wanted = ("--source", "shop", "--severity-min", "error", "--details", "user.id=42", "--since", "1h")
    code, out, _ = await command(collector, "query", *wanted, "--output", "json")
    assert code == 0
    assert [each["message"] for each in msgspec.json.decode(out)] == ["yes"]
    _, out, _ = await command(collector, "query", *wanted)
    assert "yes" in out
    assert "user=" in out
    _, out, _ = await command(collector, "query", *wanted, "--output", "csv")
    assert [row["message"] for row in csv.DictReader(io.StringIO(out))] == ["yes"]


async def test_words_are_searched_for_and_shown(collector: httpx.AsyncClient) -> None:
    await create(collector, message="a\x1b[1m Timeout, and a timeout more")
    await create(collector, message="nothing", details={"why": "timeout"})
    await create(collector, message="a timeout with a retry")
    wanted = ("--type", "test", "--grep", "timeout -retry")
    for name in ("query", "tail", "export"):
        code, out, _ = await command(collector, name, *wanted)
        assert (code, len(out.splitlines())) == (0, 2)
    code, out, _ = await command(collector, "query", *wanted, "--color", "always")
    assert code == 0
    assert "a\\x1b[1m \x1b[7mTimeout\x1b[0m, and a \x1b[7mtimeout\x1b[0m more" in out
    code, out, _ = await command(collector, "histogram", *wanted, "--json")
    assert (code, msgspec.json.decode(out)["total"]) == (0, 2)
    code, _, err = await command(collector, "query", "--grep", "x" * 257)
    assert (code, "q " in err) == (1, True), err


async def test_nothing_found_has_an_exit_code(collector: httpx.AsyncClient) -> None:
    for output in ("text", "ndjson", "json", "csv"):
        code, _, _ = await command(collector, "query", "--type", "absent", "--output", output)
        assert code == 0
        code, _, err = await command(collector, "query", "--type", "absent", "--output", output, "--fail-empty")
        assert (code, err) == (3, "Error: no matching events\n")
    code, out, err = await command(collector, "get", "123456789")
    assert (code, out, err) == (3, "", "Error: there is no event 123456789\n")


async def test_get_shows_all_there_is(collector: httpx.AsyncClient) -> None:
    stored = await create(collector, message="first\nsecond", source="shop", details={"a": {"b": "c"}})
    code, out, _ = await command(collector, "get", str(stored["id"]), "--tz", "utc")
    assert code == 0
    for text in (str(stored["id"]), "first", "second", "shop", '"b": "c"'):
        assert text in out
    _, out, _ = await command(collector, "get", str(stored["id"]), "--json")
    assert msgspec.json.decode(out) == stored


async def test_no_event_can_write_to_the_terminal(collector: httpx.AsyncClient) -> None:
    attack = "\x1b]0;owned\x07\x1b[2J\u202eabc\x9b31m\r\n\b"
    stored = await create(
        collector,
        event_type="x\x07\x1b[1m",
        message=attack,
        source="s\x07\x1b[1m",
        details={f"k{attack}": attack, "n": [attack]},
    )
    for arguments in (
        ("query",),
        ("query", "--color", "never"),
        ("get", str(stored["id"])),
        ("stats",),
        ("histogram", "--by", "source"),
        ("query", "--json"),
        ("query", "--output", "json"),
        ("get", str(stored["id"]), "--json"),
        ("stats", "--json"),
        ("histogram", "--by", "source", "--json"),
    ):
        code, out, _ = await command(collector, *arguments)
        assert code == 0
        assert not [c for c in out if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")], out
    _, out, _ = await command(collector, "query", "--color", "always")
    assert "\\x1b]0;owned" in out
    assert "\x1b]" not in out


async def test_colours_are_for_terminals_and_for_who_asks(collector: httpx.AsyncClient) -> None:
    await create(collector, severity="error")
    assert "\x1b[" not in (await command(collector, "query"))[1]
    assert "\x1b[" in (await command(collector, "query", FORCE_COLOR="1"))[1]
    assert "\x1b[" not in (await command(collector, "query", FORCE_COLOR="1", NO_COLOR="1"))[1]


async def test_stats_are_those_of_the_collector(collector: httpx.AsyncClient) -> None:
    await create(collector, event_type="deployment")
    code, out, _ = await command(collector, "stats", "--type", "deployment", "--json")
    assert code == 0
    assert msgspec.json.decode(out)["events_by_type"] == {"deployment": 1}
    _, out, _ = await command(collector, "stats", "--type", "deployment")
    assert "deployment" in out


async def test_a_histogram_is_drawn_with_each_count(collector: httpx.AsyncClient) -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    for hour, severity, n in ((0, "error", 120), (0, "info", 1), (2, "info", 40)):
        moment = (begin + timedelta(hours=hour)).isoformat()
        await post_batch(collector, ndjson(*[event(severity=severity, timestamp=moment) for _ in range(n)]))
    span = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T03:00:00Z", "--step", "1h", "--tz", "utc")
    code, out, err = await command(collector, "histogram", *span)
    assert (code, err) == (0, "")
    first, second, third, total = out.splitlines()
    assert first.startswith("2026-03-01 00:00:00       121 ███")
    assert (
        first.count("█") + first.count("▓") == 61
    )  # one error is two thirds of a column; one info is seen all the same
    assert first.endswith("▓")
    assert second == "2026-03-01 01:00:00         0"
    assert third.count("▓") == 20
    assert total == "total                     161 █ error 120  ▓ info 41"
    for severity in ("warning", "critical"):
        await create(collector, severity=severity, timestamp=begin.isoformat())
    _, out, _ = await command(collector, "histogram", *span)
    assert out.splitlines()[-1].endswith("█ critical 1  ▓ error 120  ▒ warning 1  ░ info 41")
    _, out, _ = await command(collector, "histogram", *span, "--json")
    assert msgspec.json.decode(out)["total"] == 163


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("query", "--since", "yesterday"), 2, "'yesterday' is neither an age"),
        (("query", "--details", "a"), 2, "is not PATH=VALUE"),
        (("get", "0"), 2, "0 is not in the range"),
        (("query", "--since", "1h", "--until", "2h"), 1, "which is after `to`"),
    ],
)
async def test_what_is_wrong_is_said(
    collector: httpx.AsyncClient, arguments: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = await command(collector, *arguments)
    assert (found, out) == (code, "")
    assert said in err

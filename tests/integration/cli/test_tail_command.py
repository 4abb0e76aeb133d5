"""`brain-events tail`: what was there, what arrives, and nothing lost or doubled however the connection fares."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from brain_collector.cli import follow
from brain_collector.cli.client import Client
from brain_collector.cli.main import cli
from brain_collector.cli.render import decode_event
from brain_collector.cli.templates import Columns, Template
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import command, create, event, ndjson, post_batch
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Tailing:
    """A `tail` that runs: the lines it has printed, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.said: list[str] = []
        self._reading = [
            asyncio.create_task(self._read(process.stdout, self.lines)),
            asyncio.create_task(self._read(process.stderr, self.said)),
        ]

    @staticmethod
    async def _read(stream: asyncio.StreamReader | None, to: list[str]) -> None:
        assert stream is not None
        while line := await stream.readline():
            to.append(line.decode().rstrip("\n"))

    async def until(self, *lines: str) -> None:
        async def there() -> bool:
            return set(lines) <= set(self.lines)

        await eventually(there, f"{lines} are printed")

    async def until_said(self, text: str) -> None:
        async def there() -> bool:
            return text in "".join(self.said)

        await eventually(there, f"{text!r} is said")

    async def end(self, number: int = signal.SIGINT) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await self.process.wait()
        await asyncio.gather(*self._reading)
        return code


@asynccontextmanager
async def tailing(client: httpx.AsyncClient, *arguments: str, key: str = "") -> AsyncIterator[Tailing]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "brain_collector", "tail", "-f", "--url", str(client.base_url), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "BRAIN_EVENTS_API_KEY": key},
        limit=2**24,
    )
    found = Tailing(process)
    try:
        yield found
    finally:
        await found.end(signal.SIGKILL)


def numbered(*numbers: int, **fields: Any) -> bytes:
    return ndjson(*(event(source="s", message=f"m{number}", **fields) for number in numbers))


async def test_without_follow_the_newest_are_shown_oldest_first(collector: httpx.AsyncClient) -> None:
    moments = [f"2026-03-01T00:00:{n:02}Z" for n in range(15)]
    await post_batch(collector, ndjson(*[event(message=f"m{n}", timestamp=at) for n, at in enumerate(moments)]))
    span = ("--type", "test", "--fields", "message")
    code, out, err = await command(collector, "tail", *span)
    assert (code, out.split(), err) == (0, [f"m{n}" for n in range(5, 15)], "")
    _, out, _ = await command(collector, "tail", *span, "-n", "2")
    assert out.split() == ["m13", "m14"]
    _, out, _ = await command(collector, "tail", *span, "--since", moments[1])
    assert out.split() == [f"m{n}" for n in range(1, 15)]
    _, out, _ = await command(collector, "tail", "-f", *span, "--until", moments[4])  # it ends: there is no following
    assert out.split() == ["m0", "m1", "m2", "m3"]


async def test_what_arrives_follows_what_was_there(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, numbered(1, 2, 3))
    async with tailing(collector, "--source", "s", "-n", "2", "--json") as tail:

        async def begun() -> bool:
            return len(tail.lines) == 2

        await eventually(begun, "the beginning is printed")
        await create(collector, source="other")
        await post_batch(collector, numbered(4, 5))

        async def all_there() -> bool:
            return len(tail.lines) == 4

        await eventually(all_there, "what arrived is printed")
        assert await tail.end() == 130
        assert [msgspec.json.decode(line)["message"] for line in tail.lines] == ["m2", "m3", "m4", "m5"]
        assert tail.said == []


async def test_what_arrives_is_searched_too(collector: httpx.AsyncClient) -> None:
    async with tailing(collector, "--grep", "m1 or m4", "--fields", "message") as tail:
        await post_batch(collector, numbered(1, 2))
        await tail.until("m1")
        await post_batch(collector, numbered(3, 4))
        await tail.until("m4")
        assert tail.lines == ["m1", "m4"]


async def test_restarts_of_the_collector_cost_and_double_nothing(settings: Settings, serve: Serve) -> None:
    shown = ("--source", "s", "--fields", "message")
    async with serve(settings) as other, AsyncExitStack() as running:
        client = await running.enter_async_context(serve(settings))
        at = {"port": client.base_url.port}
        async with tailing(client, *shown) as tail:
            await post_batch(other, numbered(0))
            await tail.until("m0")
            for number in range(1, 10, 3):
                await running.aclose()
                await tail.until_said("connecting again")
                await post_batch(other, numbered(number))
                await running.enter_async_context(serve(settings, **at))
                await post_batch(other, numbered(number + 1))
                await tail.until(f"m{number + 1}")
                await post_batch(other, numbered(number + 2))
                await tail.until(f"m{number + 2}")
                assert "connected again" in tail.said[-1]
                tail.said.clear()
            assert tail.lines == [f"m{n}" for n in range(10)]


async def test_a_gap_of_the_stream_is_listed(settings: Settings, serve: Serve) -> None:
    shown = ("--source", "s", "--fields", "message")
    async with serve(settings, max_stream_lag=50) as client, tailing(client, *shown) as tail:
        await post_batch(client, numbered(0))
        await tail.until("m0")
        await post_batch(client, numbered(*range(1, 400)))
        await tail.until(*(f"m{n}" for n in range(400)))
        await post_batch(client, numbered(400))
        await tail.until("m400")
        assert sorted(tail.lines) == sorted(f"m{n}" for n in range(401))
        assert tail.said == []


async def test_of_a_gap_that_is_too_long_it_is_said_where_the_rest_is(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MAX_GAP_EVENTS", 3)
    said: list[str] = []
    async with serve(settings) as client:
        await post_batch(client, numbered(*range(5), timestamp="2026-03-01T00:00:00Z"))

        def listed() -> list[str]:
            with Client(str(client.base_url), None, 10) as own:
                follower = follow.Follower(own, [("source", "s")], said.append)
                gap = follow.Gap(7, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00.000001Z")
                return [each.message for each in follower._events_of_gap(gap)]

        assert await asyncio.to_thread(listed) == ["m2", "m3", "m4"]
    (text,) = said
    assert text.startswith(
        "about 7 events were left out; only the newest 3 are printed; list them with `brain-events query --since 2"
    )


async def test_a_reader_that_leaves_ends_it(collector: httpx.AsyncClient) -> None:
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brain_collector", "tail", "-f", "--url", str(collector.base_url)),
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    os.close(write)
    await create(collector)
    assert await asyncio.to_thread(os.read, read, 1)
    os.close(read)

    async def ended() -> bool:
        await create(collector)
        return process.returncode is not None

    await eventually(ended, "it has ended")
    _, said = await process.communicate()
    assert (process.returncode, said) == (141, b"")


async def test_no_event_can_write_to_the_terminal(collector: httpx.AsyncClient) -> None:
    attack = "\x1b]0;owned\x07\x1b[2J\u202eabc\x9b31m\r\n\b\t"
    await create(collector, message=attack, source="s\x9b1m", details={"k": attack, attack: [attack]})
    for arguments in (
        (),
        ("--json",),
        ("--fields", "message,source,details,details.k"),
        ("--template", "{message} {details}"),
    ):
        code, out, _ = await command(collector, "tail", "--type", "test", *arguments)
        assert code == 0
        assert not [c for c in out if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")], out
        assert out.count("\n") == 1
        assert out.count("\t") == (3 if arguments and "--fields" in arguments else 0)
    _, out, _ = await command(collector, "tail", "--type", "test", "--json")
    assert msgspec.json.decode(out)["message"] == attack


async def test_a_collector_that_is_not_there_and_a_key_that_is_refused_end_it_at_once(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, api_key="s3cret") as client:
        code, _, err = await command(client, "tail", "-f", BRAIN_EVENTS_API_KEY="wrong")
        assert (code, "401" in err) == (4, True)
    code, _, err = await command(client, "tail", "-f")
    assert (code, "no connection" in err) == (5, True)


EVENT = decode_event(
    b'{"id":7,"event_type":"t","severity":"info","message":"a\\nb","details":{"user":{"id":42,"a.b":"c"},"n":[1,2]},'
    b'"source":null,"timestamp":"2026-03-01T00:00:00Z","created_at":"2026-03-01T00:00:01Z"}'
)


@pytest.mark.parametrize(
    ("kind", "given", "line"),
    [
        (Columns(), "id,message,source,details.user.id", "7\ta\\nb\t\t42"),
        (Columns(), r"details.user.a\.b, details.n.-1,details.n.5,details.none.x", "c\t2\t\t"),
        (Columns(), "details.n,timestamp", "[1,2]\t2026-03-01T00:00:00Z"),
        (Template(), "{severity:<8}|{id:>3}|{{{details.user.id}}}", "info    |  7|{42}"),
        (Template(), "plain", "plain"),
    ],
)
def test_lines_of_ones_own(kind: Columns | Template, given: str, line: str) -> None:
    assert kind.convert(given, None, None)(EVENT) == line


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("--fields", "id,nothing", "'nothing' is not a field; use id, timestamp"),
        ("--fields", "", "'' is not a field"),
        ("--fields", "message.x", "'message.x' is not a field"),
        ("--fields", "details..x", "is not a field"),
        ("--template", "{nothing}", "'nothing' is not a field"),
        ("--template", "{", "Single '{' encountered"),
        ("--template", "{id:zz}", "Invalid value for '--template'"),
    ],
)
def test_what_cannot_be_a_line_is_refused(option: str, given: str, said: str) -> None:
    done = CliRunner().invoke(cli, ["tail", option, given])
    assert done.exit_code == 2
    assert said in done.output


def test_messages_come_whole_however_they_are_cut() -> None:
    stream = (
        b"retry: 1000\n\nevent: ready\nid: 1-2\ndata: \n\n: a comment\n\nevent: events\nid: 3-4\ndata: [1]\n\nevent: ev"
    )
    expected = [("ready", "1-2", b""), ("events", "3-4", b"[1]")]
    for size in range(1, len(stream)):
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert list(follow.frames(pieces)) == expected

"""`brain-events export`: all, through the collector's cap and its restarts, into a file that is there when whole."""

import asyncio
import csv
import io
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.cli import part_file
from brain_collector.read import export
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import FOREIGN, command, create, event, ndjson, on_terminal, post_batch, sql

pytestmark = pytest.mark.anyio

DAY = datetime(2026, 3, 1, tzinfo=UTC)
OURS = ("--type", "test")


async def store(client: httpx.AsyncClient, n: int, **fields: Any) -> None:
    """Store events, three of each moment."""
    for start in range(0, n, 100):
        answer = await post_batch(
            client,
            ndjson(
                *(
                    event(timestamp=(DAY + timedelta(seconds=i // 3)).isoformat(), details={"i": i}, **fields)
                    for i in range(start, min(n, start + 100))
                )
            ),
        )
        assert answer.json()["rejected"] == 0, answer.text


async def listed(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get("/api/events", params={"event_type": "test", "limit": 1000})
    found: list[dict[str, Any]] = answer.json()
    return found


def decoded(lines: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines.splitlines()]


@pytest.mark.parametrize("most", [7, 20, 21, 1000])  # a part of the whole, a divisor of it, and beyond it
async def test_all_is_exported_whatever_the_collectors_cap(settings: Settings, serve: Serve, most: int) -> None:
    async with serve(settings, max_export_events=most) as client:
        await store(client, 100)
        whole = await listed(client)
        code, out, err = await command(client, "export", *OURS)
        assert (code, decoded(out), err) == (0, whole, "")
        _, out, _ = await command(client, "export", *OURS, "--format", "json")
        assert msgspec.json.decode(out) == whole
        _, out, _ = await command(client, "export", *OURS, "--format", "csv")
        assert [int(row["id"]) for row in csv.DictReader(io.StringIO(out))] == [each["id"] for each in whole]


async def test_filters_narrow_it_and_nothing_is_an_empty_document(collector: httpx.AsyncClient) -> None:
    await store(collector, 20)
    await create(collector, message="wanted", source="shop", details={"user": {"id": 42}})
    for wanted, n in ((("--source", "shop", "--details", "user.id=42"), 1), (("--source", "nobody"), 0)):
        _, out, _ = await command(collector, "export", *wanted)
        assert len(decoded(out)) == n
        _, out, _ = await command(collector, "export", *wanted, "--format", "json")
        assert len(msgspec.json.decode(out)) == n
        _, out, _ = await command(collector, "export", *wanted, "--format", "csv")
        assert len(out.splitlines()) == n + 1


async def test_a_file_is_there_when_it_is_whole(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    file, part = tmp_path / "events.ndjson", tmp_path / "events.ndjson.part"
    file.write_text("the one before")
    async with serve(settings) as client:
        await store(client, 100)
        whole = await listed(client)
        code, out, err = await command(client, "export", *OURS, str(file))
        assert (code, out, err) == (0, "", "")
        assert decoded(file.read_text()) == whole
        code, _, err = await command(client, "export", *OURS, str(tmp_path / "no" / "file"))
        assert (code, "No such file" in err) == (1, True)
        code, _, _ = await command(client, "export", *OURS, "/dev/null")
        assert (code, Path("/dev/null").is_char_device(), Path("/dev/null.part").exists()) == (0, True, False)
    code, _, err = await command(client, "export", *OURS, str(file))
    assert (code, "no connection" in err) == (5, True)
    assert decoded(file.read_text()) == whole  # untouched
    assert part.read_text() == ""


@pytest.mark.parametrize("left", ["", "whole", "cut", "all"])
async def test_what_broke_off_is_gone_on_with(collector: httpx.AsyncClient, tmp_path: Path, left: str) -> None:
    file, part = tmp_path / "events.ndjson", tmp_path / "events.ndjson.part"
    await store(collector, 100)
    whole = await listed(collector)
    lines = [msgspec.json.encode(each) + b"\n" for each in whole]
    broken = {"": [], "whole": lines[:40], "cut": [*lines[:40], lines[40][:30]], "all": lines}[left]
    part.write_bytes(b"".join(broken))
    code, out, err = await command(collector, "export", *OURS, "--resume", str(file))
    assert (code, out, err) == (0, "", "")
    assert decoded(file.read_text()) == whole
    assert not part.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--resume",), 2, "--resume needs a FILE and --format ndjson"),
        (("--resume", "--format", "csv", "FILE"), 2, "--resume needs a FILE and --format ndjson"),
        (("--resume", "FILE"), 1, "the last line is not an event"),
    ],
)
async def test_what_cannot_be_gone_on_with_is_said(
    collector: httpx.AsyncClient, tmp_path: Path, arguments: Sequence[str], code: int, said: str
) -> None:
    (tmp_path / "FILE.part").write_text("this is another file\n")
    found, _, err = await command(
        collector, "export", *(str(tmp_path / each) if each == "FILE" else each for each in arguments)
    )
    assert (found, said in err) == (code, True), err
    assert (tmp_path / "FILE.part").read_text() == "this is another file\n"


async def test_a_collector_that_is_started_again_meanwhile_costs_nothing(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FIRST_PAGE", 7)
    monkeypatch.setattr(export, "LARGEST_PAGE", 11)
    incompressible = os.urandom(30_000).hex()
    async with AsyncExitStack() as running:
        client = await running.enter_async_context(serve(settings))
        await store(client, 200, message=incompressible)
        query = f"SELECT id FROM system_events WHERE {FOREIGN} ORDER BY timestamp DESC, id DESC"
        whole = [id for (id,) in await sql(settings.dsn, query)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "brain_collector", "export", *OURS, "--url", str(client.base_url)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
            limit=2**17,
        )
        assert process.stdout is not None
        first = await process.stdout.readline()  # no more is read: what the pipe does not take has to wait
        await running.aclose()
        async with serve(settings, port=client.base_url.port):
            rest, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
    assert [each["id"] for each in decoded((first + rest).decode())] == whole


async def test_how_far_it_is_is_shown_to_terminals_alone(collector: httpx.AsyncClient, tmp_path: Path) -> None:
    await store(collector, 30)
    code, shown = await on_terminal("export", *OURS, "--url", str(collector.base_url), str(tmp_path / "f"))
    assert code == 0
    assert "events  30" in shown


@pytest.mark.parametrize("arguments", [("export",), ("export", "--format", "csv"), ("query", "--output", "csv")])
async def test_no_event_can_write_to_the_terminal(collector: httpx.AsyncClient, arguments: tuple[str, ...]) -> None:
    await create(collector, message="\x1b]0;owned\x07\x9b31m\u202e\b")
    code, shown = await on_terminal(*arguments, *OURS, "--url", str(collector.base_url), stdout=True)
    shown = shown.replace("\r\n", "\n")
    assert (code, "owned" in shown) == (0, True)
    assert not [c for c in shown if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")], shown


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 11, 12, 13, 40])
def test_the_last_line_is_found_whatever_lies_at_the_edge_of_a_block(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "_BLOCK_BYTES", 6)
    text = b"12345\n78901\nabcdefghijklmnopqrstuvwxyz\nend"[:size]
    part_file.part_of(tmp_path / "f").write_bytes(text)
    with part_file.open_part(tmp_path / "f", resume=True) as file:
        assert part_file.last_line(file) == (text.splitlines()[text.count(b"\n") - 1] if b"\n" in text else b"")
    assert (tmp_path / "f").read_bytes() == text[: text.rfind(b"\n") + 1]

"""`brain-events import`: everything that is an event is stored, once, however often it is imported."""

import asyncio
import gzip
import io
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from brain_collector.cli import import_batches
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import command, count_foreign, create, event, ndjson, on_terminal, post_batch
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def numbered(n: int) -> bytes:
    return ndjson(
        *(event(message=f"m{i}", source="s", details={"i": i}, timestamp="2026-03-01T00:00:00Z") for i in range(n))
    )


@pytest.mark.parametrize("packed", [False, True])
async def test_a_file_is_stored_once_however_often_it_is_imported(
    collector: httpx.AsyncClient, settings: Settings, tmp_path: Path, *, packed: bool
) -> None:
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(numbered(2500)) if packed else numbered(2500))
    code, out, err = await command(collector, "import", str(file))
    assert (code, out, err) == (0, "", "2,500 lines: 2,500 stored, 0 already stored, 0 rejected\n")
    code, out, err = await command(collector, "import", "-", given=file.read_bytes())
    assert (code, out, err) == (0, "", "2,500 lines: 0 stored, 2,500 already stored, 0 rejected\n")
    assert await count_foreign(settings.dsn) == 2500


async def test_what_was_exported_is_imported_as_it_was(
    collector: httpx.AsyncClient, settings: Settings, serve: Serve, tmp_path: Path, database_url: str
) -> None:
    await post_batch(collector, numbered(50))
    await create(collector, message="odd \u202e\x00\n", details={"big": 10**30, "a": {"b": [1.5, None, "\x1b"]}})
    await create(collector, details=None, severity="critical")
    _, exported, _ = await command(collector, "export", "--type", "test")
    await collector.delete(f"/api/events/{msgspec.json.decode(exported.splitlines()[0])['id']}")
    for each in exported.splitlines()[1:]:
        await collector.delete(f"/api/events/{msgspec.json.decode(each)['id']}")
    assert await count_foreign(settings.dsn) == 0
    code, _, err = await command(collector, "import", "-", given=exported.encode())
    assert code == 0, err
    _, again, _ = await command(collector, "export", "--type", "test")
    assert _sorted(again) == _sorted(exported)


def _sorted(lines: str) -> list[bytes]:
    """Return events as far as they are kept."""
    kept = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in lines.splitlines()]
    return sorted(
        b" ".join(bytes(value) for name, value in sorted(each.items()) if name not in {"id", "created_at"})
        for each in kept
    )


async def test_lines_that_are_no_events_are_named_and_cost_no_other(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    lines = numbered(2000).splitlines(keepends=True)
    lines[2:2] = [b"\n", b"not \x1b[2J json\n", b"  \r\n"]
    lines[1500] = b'{"event_type": "x", "severity": "loud", "message": "m"}\n'
    lines.append(b"[" + b"1" * import_batches.BATCH_BYTES + b"]\n")
    lines.append(b'{"event_type": "last", "severity": "info", "message": "without a line break"}')
    code, out, err = await command(collector, "import", "-", given=b"".join(lines))
    said = err.splitlines()
    assert (code, out) == (1, "")
    assert said[0].startswith("line 4: not_json: ")
    assert said[1].startswith("line 1501: severity_unknown: severity is 'loud'")
    assert said[2] == "line 2004: the line is longer than 4,194,304 bytes"
    assert said[3:] == [
        "2,003 lines: 2,000 stored, 0 already stored, 3 rejected",
        "Error: 3 of 2,003 lines were rejected",
    ]
    assert "\x1b" not in err
    assert await count_foreign(settings.dsn) == 2000


async def test_what_is_named_is_bounded(collector: httpx.AsyncClient, settings: Settings) -> None:
    bad = b"".join(b"line %d\n" % n for n in range(1200))  # not even one of a batch is an event
    code, _, err = await command(collector, "import", "-", given=bad)
    said = err.splitlines()
    assert code == 1
    assert [line.partition(":")[0] for line in said[:100]] == [f"line {n}" for n in range(1, 101)]
    assert said[100:] == [
        "more than 100 lines are rejected; further ones are counted, but not named",
        "1,200 lines: 0 stored, 0 already stored, 1,200 rejected",
        "Error: 1,200 of 1,200 lines were rejected",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "0 lines: 0 stored"), (gzip.compress(numbered(5))[:-20], "Compressed file ended"), (None, "No such file")],
)
async def test_files_that_are_none(
    collector: httpx.AsyncClient, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "f"
    if content is not None:
        file.write_bytes(content)
    code, _, err = await command(collector, "import", str(file))
    assert (code, said in err) == (0 if content == b"" else 1, True), err


async def begun(client: httpx.AsyncClient, settings: Settings, half: bytes) -> asyncio.subprocess.Process:
    """Return an import that has stored something of the half that it was given, and waits for the rest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brain_collector", "import", "-", "--url", str(client.base_url)),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdin is not None
    process.stdin.write(half)

    async def stored() -> bool:
        return await count_foreign(settings.dsn) > 0

    await eventually(stored, "it has begun")
    return process


async def test_an_import_that_is_killed_is_done_again(collector: httpx.AsyncClient, settings: Settings) -> None:
    whole = numbered(5_000)
    process = await begun(collector, settings, whole[: len(whole) // 2])
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    code, _, err = await command(collector, "import", "-", given=whole)
    assert (code, " 0 already stored" in err) == (0, False), err
    assert await count_foreign(settings.dsn) == 5_000


async def test_a_collector_that_goes_away_costs_a_wait(settings: Settings, serve: Serve) -> None:
    whole = numbered(5_000)
    half = len(whole) // 2
    async with AsyncExitStack() as running:
        client = await running.enter_async_context(serve(settings))
        process = await begun(client, settings, whole[:half])
        await running.aclose()
        importing = asyncio.create_task(process.communicate(whole[half:]))
        async with serve(settings, port=client.base_url.port):
            _, said = await importing
    assert (process.returncode, b"5,000 lines" in said) == (0, True), said
    assert await count_foreign(settings.dsn) == 5_000


async def test_what_cannot_go_on_says_how_far_it_came(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key="s3cret") as client:
        code, _, err = await command(client, "import", "-", given=numbered(1), BRAIN_EVENTS_API_KEY="wrong")
        assert (code, "401" in err, "so far" in err) == (4, True, False)
    async with serve(settings, max_batch_events=900) as client:
        code, _, err = await command(client, "import", "-", given=numbered(1000))
        assert (code, "more than 900 events" in err) == (1, True)
        code, _, err = await command(client, "import", "-", "--batch", "900", given=numbered(1000))
        assert (code, "1,000 stored" in err) == (0, True)


async def test_how_far_it_is_is_shown_to_terminals_alone(collector: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(numbered(1500))
    code, shown = await on_terminal("import", str(tmp_path / "f"), "--url", str(collector.base_url))
    assert code == 0
    assert "imported  [###" in shown
    assert "100%" in shown


LINES = some.lists(some.sampled_from([b"", b" ", b"a", b"bb", b"c" * 9, b"d" * 10, b"e" * 11, b"f" * 40]))


@given(lines=LINES, ends=some.booleans())
def test_every_line_is_in_one_batch_or_is_too_long(lines: list[bytes], *, ends: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_batches, "BATCH_BYTES", 10)
        text = b"\n".join(lines) + (b"\n" if ends else b"")
        found = list(import_batches.batches(io.BytesIO(text), 3))
    numbers = [number for batch in found for number in batch.numbers]
    long = [number for batch in found for number in batch.too_long]
    kept = [line for batch in found for line in batch.body.splitlines()]
    given_lines = text.split(b"\n")
    assert kept == [given_lines[number - 1] for number in numbers]
    assert sorted(numbers + long) == [place for place, line in enumerate(given_lines, 1) if line.strip()]
    assert all(len(given_lines[number - 1]) >= 10 for number in long)
    assert all(len(batch.numbers) <= 3 and len(batch.body) <= 11 for batch in found)
    assert len({batch.idempotency_key for batch in found if batch.numbers}) == len(
        [batch for batch in found if batch.numbers]
    )

"""The smoke test itself: it passes on a collector that works, fails where there is none, and leaves nothing behind."""

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.collector import Process, collector_process, new_database
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S

SCRIPT = Path(__file__).parents[1] / "smoke" / "smoke.sh"
KEY = "smoke-key"


@pytest.fixture(scope="module")
def collector(engines: SuiteEngines) -> Iterator[Process]:
    """A collector with a key, in a process of its own."""
    with (
        new_database(engines, template="migrated") as dsn,
        collector_process("--database-url", dsn, BRAIN_COLLECTOR_API_KEY=KEY) as process,
    ):
        yield process


def run(url: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SCRIPT, url], env={**os.environ, **environ}, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def smoke_events(collector: Process) -> list[str]:
    """Return the smoke tests' event types that are left."""
    headers = {"Authorization": f"Bearer {KEY}"}
    events = httpx.get(f"{collector.url}/api/events?limit=1000", headers=headers, timeout=PATIENCE_S).json()
    return [event["event_type"] for event in events if event["event_type"].startswith("smoke_")]


def test_all_twelve_steps_pass_on_a_collector_and_nothing_is_left(collector: Process) -> None:
    found = run(collector.url + "/", BRAIN_EVENTS_API_KEY=KEY)

    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    assert [line.split()[:2] for line in found.stdout.splitlines()[1:-1]] == [["✓", str(n)] for n in range(1, 13)]
    assert found.stdout.splitlines()[-1] == "12 passed"
    assert "\x1b" not in found.stdout
    assert smoke_events(collector) == []


def test_a_step_that_fails_is_shown_with_its_answer_and_the_run_fails(collector: Process) -> None:
    found = run(collector.url, BRAIN_EVENTS_API_KEY="wrong")

    assert found.returncode == 1
    assert found.stdout.splitlines()[-1] == "0 passed, 12 failed"
    assert "last answer: 401" in found.stdout
    assert "clean-up failed" in found.stderr


def test_where_nothing_listens_every_step_fails() -> None:
    found = run("http://127.0.0.1:9")

    assert found.returncode == 1
    assert found.stdout.splitlines()[-1] == "0 passed, 12 failed"
    assert "last answer: 000" in found.stdout


def test_what_was_created_is_deleted_also_when_a_step_fails(collector: Process, tmp_path: Path) -> None:
    broken = tmp_path / "smoke.sh"
    broken.write_text(SCRIPT.read_text().replace('holds 201 \'body["message"]', 'holds 299 \'body["message"]'))
    found = subprocess.run(
        ["bash", broken, collector.url],
        env={**os.environ, "BRAIN_EVENTS_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert found.returncode == 1
    assert "✗  2 create a minimal event" in found.stdout
    assert found.stdout.splitlines()[-1] == "11 passed, 1 failed"
    assert smoke_events(collector) == []


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_ticks_are_coloured_on_a_terminal_unless_colour_is_unwanted(
    collector: Process, environ: dict[str, str], *, coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    env = {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **environ}
    process = subprocess.Popen([SCRIPT, collector.url], env={**env, "BRAIN_EVENTS_API_KEY": KEY}, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # EIO: the other end of the terminal was closed
    finally:
        os.close(ours)

    assert process.wait(PATIENCE_S) == 0
    assert (b"\x1b[32m" in shown) is coloured

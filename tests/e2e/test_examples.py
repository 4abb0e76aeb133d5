"""Every example runs as its docstring says, and the events it names arrive."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = {"starlette_app": ["/hello/ann", "/fail", "/nowhere"], "fastapi_app": ["/items/1", "/items/99"]}
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in APPS)


@pytest.fixture(scope="module")
def collector() -> Iterator[CollectorProcess]:
    """One collector for all examples: each has a source of its own."""
    with scratch_dir() as path, collector_process(path / "data") as found:
        yield found


def promised(example: str) -> set[str]:
    """Return the event types that the first line of the docstring names."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{example}.py").read_text()))
    assert docstring is not None
    return set(re.findall(r"`([a-z_]+)`", docstring.partition("\n\n")[0]))


def arrived(collector: CollectorProcess, example: str) -> set[str]:
    """Return the event types that the collector has of it."""
    source = f"example-{example.removesuffix('_app')}"
    return {event["event_type"] for event in collector.get(f"/api/events?source={source}&limit=1000")}


@pytest.mark.parametrize("example", SCRIPTS)
def test_a_script_delivers_what_it_promises(collector: CollectorProcess, example: str) -> None:
    environ = {**os.environ, "BRAIN_EVENTS_URL": collector.url}
    subprocess.run([sys.executable, EXAMPLES / f"{example}.py"], check=True, timeout=PATIENCE_S, env=environ)

    assert promised(example) <= arrived(collector, example)


@contextmanager
def serving(example: str, collector: CollectorProcess, log: Path) -> Iterator[str]:
    """Serve an example on a free port; yield its URL."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), f"{example}:app", "--port", "0"]
    with log.open("w") as stderr:
        server = subprocess.Popen(command, stderr=stderr, env={**os.environ, "BRAIN_EVENTS_URL": collector.url})
        try:
            wait_until(lambda: "running on" in log.read_text(), f"{example} serves")
            found = re.search(r"http://[\d.:]+", log.read_text())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


@pytest.mark.parametrize("example", APPS)
def test_an_application_delivers_what_it_promises(collector: CollectorProcess, example: str, tmp_path: Path) -> None:
    with serving(example, collector, tmp_path / "log") as url:
        for path in APPS[example]:
            httpx.get(url + path, timeout=PATIENCE_S)
        httpx.post(url + "/items/1/sold", timeout=PATIENCE_S)
        httpx.post(url + "/items/99/sold", timeout=PATIENCE_S)

    wait_until(
        lambda: promised(example) - {"websocket"} <= arrived(collector, example), f"{promised(example)} of {example}"
    )

"""gunicorn that loads the application before it forks: the SDK has begun to send in the master by then."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.test_application_kills import HEIR
from tests.support import sink as sinks
from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

WORKERS = 4
REQUESTS, EACH = 400, 500
APPLICATION = f"""
import os, brain_events
brain_events.init(source="web")
brain_events.log_system_event("boot", "info", "in the master")
brain_events.flush()

def app(environ, start_response):
    request = int(environ["QUERY_STRING"])
    for number in range({EACH}):
        details = {{"number": request * {EACH} + number, "worker": os.getpid()}}
        brain_events.log_system_event("visit", "info", "", details)
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


@contextmanager
def gunicorn(directory: Path, url: str) -> Iterator[httpx.Client]:
    """Serve the application until the end of the block; it must end by itself then."""
    (directory / "shop.py").write_text(APPLICATION)
    with scratch_dir() as sockets:
        yield from _serving(directory, url, sockets / "socket")


def _serving(directory: Path, url: str, socket: Path) -> Iterator[httpx.Client]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", str(WORKERS), "-b", f"unix:{socket}", "shop:app"],
        env={**os.environ, "BRAIN_EVENTS_URL": url, "BRAIN_EVENTS_SPOOL_DIR": str(directory / "spool")},
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(socket.exists, "gunicorn serves")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), retries=3), timeout=PATIENCE_S) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        assert "brain-events" not in errors
    finally:
        process.kill()
        process.wait()


def visit(client: httpx.Client, requests: int) -> None:
    """Ask from eight threads, so that every worker has something to do."""
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda number: client.get(f"http://shop/?{number}").status_code, range(requests))
        assert set(answers) == {200}


def test_forked_workers_deliver_each_of_200_000_events_once(collector: CollectorProcess, tmp_path: Path) -> None:
    with gunicorn(tmp_path, collector.url) as client:
        visit(client, REQUESTS)
    inherit(tmp_path, collector.url)
    ((rows, numbers, workers),) = collector.sql(
        "SELECT count(*), count(DISTINCT details->>'number'), count(DISTINCT details->>'worker') "
        "FROM system_events WHERE event_type = 'visit'"
    )
    assert (rows, numbers, workers) == (REQUESTS * EACH, REQUESTS * EACH, WORKERS)
    assert collector.sql("SELECT count(*) FROM system_events WHERE event_type = 'boot'") == [(1,)]


def test_workers_end_while_the_collector_hangs_and_their_events_wait_on_disk(tmp_path: Path) -> None:
    with sinks.serve() as sink:
        with gunicorn(tmp_path, sink.url) as client:
            sink.always = "hang"
            visit(client, 20)
        sink.stopping.set()
        sink.always = None
        inherit(tmp_path, sink.url)
        numbers = sorted(
            event.details["number"] for event in sink.events if event.event_type == "visit" and event.details
        )
        assert numbers == list(range(20 * EACH))


def inherit(directory: Path, url: str) -> None:
    """Be the next process of the application, which delivers what is left on disk."""
    environ = {**os.environ, "BRAIN_EVENTS_URL": url, "BRAIN_EVENTS_SPOOL_DIR": str(directory / "spool")}
    subprocess.run([sys.executable, "-c", HEIR], env=environ, timeout=PATIENCE_S, check=True)

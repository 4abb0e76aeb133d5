"""Outages against a real collector: whatever ends, restarts or grows meanwhile, each event becomes one row.

BRAIN_TEST_OUTAGE_S=600 stretches the outage; the events stay as many.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from brain_events import Stats
from brain_events.config import DEFAULT_MAX_BUFFER_BYTES
from tests.e2e.test_application_kills import HEIR
from tests.support.process import CollectorProcess
from tests.support.waiting import wait_until

OUTAGE_S = float(os.environ.get("BRAIN_TEST_OUTAGE_S", "15"))
PILE = int(20_000 * OUTAGE_S)
FEW = 20_000
MEMORY_BYTES = DEFAULT_MAX_BUFFER_BYTES + 16 * 1024 * 1024  # what a disk has not taken yet, and the batch under way

APPLICATION = """
import sys, time, brain_events, msgspec
name, n, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
brain_events.init(source=name)
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
most, least = 0, None
begun = time.monotonic()
for number in range(n):
    brain_events.log_system_event("outage", "info", str(number), {"number": number, "text": "x" * 200})
    if number % 100 == 0:
        time.sleep(max(0, begun + seconds * number / n - time.monotonic()))
        if number > n / 4:
            most, least = max(most, resident()), min(least or resident(), resident())
print(most - least, flush=True)
brain_events.flush(float(sys.argv[4]))
print(msgspec.json.encode(brain_events.stats()).decode())
"""


class Application:
    def __init__(
        self, collector: CollectorProcess, spool: Path, name: str, n: int, *, seconds: float, flush_s: float
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", APPLICATION, name, str(n), str(seconds), str(flush_s)],
            env={**os.environ, "BRAIN_EVENTS_URL": collector.url, "BRAIN_EVENTS_SPOOL_DIR": str(spool)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def logged(self) -> int:
        """Wait until everything is logged; return by how many bytes its memory grew, not counting the first quarter."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def end(self) -> Stats:
        """Wait for the end; return its account."""
        out, _ = self._process.communicate()
        assert self._process.returncode == 0
        return msgspec.json.decode(out.splitlines()[-1], type=Stats)


def rows(collector: CollectorProcess, name: str) -> list[int]:
    found = collector.sql(f"SELECT message::int FROM system_events WHERE source = '{name}' ORDER BY 1")
    return [number for (number,) in found]


@contextmanager
def killed_again_and_again(collector: CollectorProcess) -> Iterator[None]:
    """Kill the collector each half second: some requests are committed and not answered."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.5):
            collector.kill()
            collector.start()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(OUTAGE_S + 900)
def test_an_outage_fills_the_disk_and_not_the_memory_and_ends_with_every_row(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    collector.kill()
    application = Application(collector, tmp_path, "outage", PILE, seconds=OUTAGE_S, flush_s=120)
    assert application.logged() < MEMORY_BYTES
    collector.start()
    account = application.end()
    assert (account.logged, account.delivered, account.dropped) == (PILE, PILE, {})
    assert rows(collector, "outage") == list(range(PILE))
    assert list(tmp_path.glob("*-*")) == []


def test_an_application_that_restarts_in_an_outage_leaves_its_events_to_the_next(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    collector.kill()
    for n in range(2):
        application = Application(collector, tmp_path, f"restart-{n}", FEW, seconds=1, flush_s=0.1)
        assert application.end().delivered == 0
    collector.start()
    environ = {**os.environ, "BRAIN_EVENTS_URL": collector.url, "BRAIN_EVENTS_SPOOL_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", HEIR], env=environ, check=True)
    assert [rows(collector, f"restart-{n}") for n in range(2)] == [list(range(FEW))] * 2
    assert list(tmp_path.glob("*-*")) == []


def test_a_collector_that_dies_between_commit_and_answer_stores_each_event_once(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    application = Application(collector, tmp_path, "killed", FEW, seconds=10, flush_s=60)
    wait_until(lambda: rows(collector, "killed"), "it sends")
    with killed_again_and_again(collector):
        application.logged()
    account = application.end()
    assert (account.logged, account.delivered, account.dropped) == (FEW, FEW, {})
    assert rows(collector, "killed") == list(range(FEW))

"""Outages against a real collector: whatever ends, restarts or grows meanwhile, each event becomes one row."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from brain_events import Stats
from tests.e2e.process import CollectorProcess, wait_until
from tests.e2e.test_durable import HEIR

APPLICATION = """
import sys, time, brain_events, msgspec
name, n, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
brain_events.init(source=name)
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
brain_events.log_system_event("outage", "info", "0")
most, least = 0, None
for number in range(1, n):
    brain_events.log_system_event("outage", "info", str(number), {"number": number, "text": "x" * 200})
    if number % 100 == 0:
        time.sleep(seconds / (n / 100))
        if number > n / 4:
            most, least = max(most, resident()), min(least or resident(), resident())
brain_events.flush(float(sys.argv[4]))
print(msgspec.json.encode(brain_events.stats()).decode())
print(most - least)
"""
N = 20_000


class Application:
    def __init__(self, collector: CollectorProcess, spool: Path, name: str, seconds: float, flush_s: float) -> None:
        arguments = [name, str(N), str(seconds), str(flush_s)]
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", APPLICATION, *arguments],
            env={**os.environ, "BRAIN_EVENTS_URL": collector.url, "BRAIN_EVENTS_SPOOL_DIR": str(spool)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[Stats, int]:
        """Return its account, and by how many bytes its memory grew."""
        out, _ = self._process.communicate(timeout=150)
        assert self._process.returncode == 0
        account, growth = out.splitlines()
        return msgspec.json.decode(account, type=Stats), int(growth)


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


def test_an_outage_fills_the_disk_and_not_the_memory_and_ends_with_every_row(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    application = Application(collector, tmp_path, "outage", seconds=8, flush_s=60)
    wait_until(lambda: rows(collector, "outage"), "it sends")
    collector.kill()
    wait_until(lambda: len(list(tmp_path.glob("*-*/*.batch"))) > 3, "the spool grows")
    time.sleep(2)
    collector.start()
    account, growth = application.end()
    assert (account.logged, account.delivered, account.dropped) == (N, N, {})
    assert growth < 8 * 1024 * 1024
    assert rows(collector, "outage") == list(range(N))
    assert list(tmp_path.glob("*-*")) == []


def test_an_application_that_restarts_in_an_outage_leaves_its_events_to_the_next(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    collector.kill()
    accounts = [Application(collector, tmp_path, f"restart-{n}", seconds=1, flush_s=0.1).end()[0] for n in range(2)]
    assert [account.delivered for account in accounts] == [0, 0]
    collector.start()
    environ = {**os.environ, "BRAIN_EVENTS_URL": collector.url, "BRAIN_EVENTS_SPOOL_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", HEIR], env=environ, timeout=120, check=True)
    assert [rows(collector, f"restart-{n}") for n in range(2)] == [list(range(N))] * 2
    assert list(tmp_path.glob("*-*")) == []


def test_a_collector_that_dies_between_commit_and_answer_stores_each_event_once(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    application = Application(collector, tmp_path, "killed", seconds=10, flush_s=60)
    wait_until(lambda: rows(collector, "killed"), "it sends")
    with killed_again_and_again(collector):
        time.sleep(8)
    account, _ = application.end()
    assert (account.logged, account.delivered, account.dropped) == (N, N, {})
    assert rows(collector, "killed") == list(range(N))

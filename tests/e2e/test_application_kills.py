"""Applications are killed against a real collector, and nothing that they logged is lost or stored twice."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.process import CollectorProcess
from tests.support.relay import Relay
from tests.support.waiting import PATIENCE_S, wait_until

ROUNDS = int(os.environ.get("BRAIN_TEST_KILL_ROUNDS", "12"))

LOGGER = """
import os, sys, threading, brain_events
round_ = int(sys.argv[1])
brain_events.init(source="killed", interval_s=0.02)
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def log_on(thread):
    number = 0
    while True:
        brain_events.log_system_event("kill", "info", f"{round_}-{thread}-{number}", {"number": number})
        os.write(acknowledged, b"%d-%d-%d\\n" % (round_, thread, number))
        number += 1
        if number % 50 == 0:
            os.sched_yield()
for thread in range(4):
    threading.Thread(target=log_on, args=(thread,)).start()
"""
HEIR = """
import time, brain_events
brain_events.init(source="heir")
brain_events.log_system_event("heir", "info", "adopts what is left")
while not brain_events.flush() or brain_events.stats().spooled:
    time.sleep(0.05)
assert brain_events.stats().dropped == {}
"""


def logs(record: Path, round_: int) -> bool:
    return record.exists() and f"{round_}-".encode() in record.read_bytes()


@contextmanager
def coming_and_going(relay: Relay, state: str) -> Iterator[None]:
    """Let the collector be reachable, or not, or now and then."""
    done = threading.Event()

    def flap() -> None:
        while not done.wait(random.uniform(0.01, 0.1)):
            relay.refuse()
            done.wait(random.uniform(0.01, 0.1))
            relay.restore()

    if state == "down":
        relay.refuse()
    thread = threading.Thread(target=flap)
    if state == "flapping":
        thread.start()
    yield
    done.set()
    if state == "flapping":
        thread.join()
    relay.restore()


@pytest.mark.parametrize("durable", ["0", "1"], ids=["default", "durable"])
def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    collector: CollectorProcess, tmp_path: Path, durable: str
) -> None:
    relay = Relay(collector.url)
    environ = {
        **os.environ,
        "BRAIN_EVENTS_URL": relay.url,
        "BRAIN_EVENTS_DURABLE": durable,
        "BRAIN_EVENTS_SPOOL_DIR": str(tmp_path / "spool"),
    }
    record = tmp_path / "acknowledged"
    try:
        for round_ in range(ROUNDS):
            with coming_and_going(relay, ("up", "down", "flapping")[round_ % 3]):
                logger = subprocess.Popen([sys.executable, "-c", LOGGER, str(round_), record], env=environ)
                if round_ % 2:  # else it may be killed while it starts
                    wait_until(partial(logs, record, round_), "it logs")
                time.sleep(random.uniform(0.15, 0.5))
                logger.kill()
                logger.wait()
        subprocess.run([sys.executable, "-c", HEIR], env=environ, timeout=PATIENCE_S, check=True)
    finally:
        relay.close()

    logged = set(record.read_text().split())
    stored = [message for (message,) in collector.sql("SELECT message FROM system_events WHERE source = 'killed'")]
    assert len(logged) > ROUNDS
    assert logged - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert len(stored) - len(logged) <= ROUNDS * 4  # at most the events whose calls were under way
    assert list((tmp_path / "spool").glob("[!.]*-*")) == []
    assert not (tmp_path / "spool" / "damaged").exists()
    # A process killed while it makes its directory leaves a hidden, empty one, which is removed after five days.
    assert [path.name for path in (tmp_path / "spool").glob(".*/*") if path.name != "lock"] == []

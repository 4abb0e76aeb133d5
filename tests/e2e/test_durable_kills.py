"""Durable mode against a real collector: applications are killed, and nothing that they logged is lost."""

import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

ROUNDS = int(os.environ.get("BRAIN_TEST_KILL_ROUNDS", "20"))

LOGGER = """
import os, sys, brain_events
round_ = int(sys.argv[1])
brain_events.init(source="killed", interval_s=0.02)
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while True:
    brain_events.log_system_event("kill", "info", f"{round_}-{number}", {"number": number})
    os.write(acknowledged, b"%d-%d\\n" % (round_, number))
    number += 1
    if number % 50 == 0:
        os.sched_yield()
"""
HEIR = """
import time, brain_events
brain_events.init(source="heir")
brain_events.log_system_event("heir", "info", "adopts what is left")
while not brain_events.flush() or brain_events.stats().spooled:
    time.sleep(0.05)
"""


def logs(record: Path, round_: int) -> bool:
    return record.exists() and f"{round_}-".encode() in record.read_bytes()


def test_kill_9_at_any_moment_loses_and_doubles_nothing(collector: CollectorProcess, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "BRAIN_EVENTS_URL": collector.url,
        "BRAIN_EVENTS_DURABLE": "1",
        "BRAIN_EVENTS_SPOOL_DIR": str(tmp_path / "spool"),
    }
    record = tmp_path / "acknowledged"
    for round_ in range(ROUNDS):
        logger = subprocess.Popen([sys.executable, "-c", LOGGER, str(round_), record], env=environ)
        if round_ % 2:  # else it may be killed while it starts
            wait_until(partial(logs, record, round_), "it logs")
        time.sleep(random.uniform(0.15, 0.5))
        logger.kill()
        logger.wait()
    subprocess.run([sys.executable, "-c", HEIR], env=environ, timeout=PATIENCE_S, check=True)

    logged = set(record.read_text().split())
    stored = [message for (message,) in collector.sql("SELECT message FROM system_events WHERE source = 'killed'")]
    assert len(logged) > ROUNDS
    assert logged - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert len(stored) - len(logged) <= ROUNDS  # at most the event whose call was under way
    assert list((tmp_path / "spool").glob("[!.]*-*")) == []
    assert not (tmp_path / "spool" / "damaged").exists()
    # A process killed while it makes its directory leaves a hidden, empty one, which is removed after five days.
    assert [path.name for path in (tmp_path / "spool").glob(".*/*") if path.name != "lock"] == []

"""What the SDK's tests share: waiting for a condition, clients that retry fast, scripts in processes of their own."""

import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

from brain_events import Client, Config
from brain_events._delivery.transport import Transport


def fast_client(url: str = "http://collector.invalid", transport: Transport | None = None, **settings: Any) -> Client:
    """Return a client whose back-off and probes take milliseconds, and that has no outbox unless it is told to."""
    quick: dict[str, Any] = {"interval_s": 0.01, "retry_base_s": 0.001, "retry_cap_s": 0.01, "probe_interval_s": 0.01}
    quick["spool_dir"] = None
    quick["journal_dir"] = os.environ["BRAIN_EVENTS_JOURNAL_DIR"]
    return Client(Config(url=url, **(quick | settings)), transport)


NEXT = """
    import brain_events, time
    brain_events.init()
    brain_events.log_system_event("next", "info", "")
    while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
"""
"""The next process of an application: it adopts and delivers what those before it left."""


def run_script(script: str, url: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a fresh interpreter that is configured by the environment, as an application is."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BRAIN_EVENTS_")}
    environ["BRAIN_EVENTS_JOURNAL_DIR"] = os.environ["BRAIN_EVENTS_JOURNAL_DIR"]
    if url:
        environ["BRAIN_EVENTS_URL"] = url
    environ |= more
    command = [sys.executable, "-W", "ignore", "-c", dedent(script)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

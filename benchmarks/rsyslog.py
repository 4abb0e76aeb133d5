"""rsyslog with ompgsql as a subject of `ingest.py`: the events that it commits a second while 16 connections send.

Syslog acknowledges nothing, so the rows that appear in the table are counted. The settings are the fastest ones that
were found: batches of 1,000 from a queue in memory, four workers.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from load import event

CONNECTIONS: Final = 16
WARM_UP_S: Final = 2.0
CONFIG: Final = """
module(load="imptcp")
module(load="ompgsql")
global(workDirectory="{directory}")
template(name="event" type="list" option.stdsql="on") {{
    constant(value="INSERT INTO system_events (event_type, severity, message, details, source, timestamp) VALUES ('")
    property(name="programname")
    constant(value="', 'info', 'paid', '")
    property(name="msg")
    constant(value="', '")
    property(name="hostname")
    constant(value="', '")
    property(name="timereported" dateFormat="rfc3339")
    constant(value="')")
}}
ruleset(name="store") {{
    action(type="ompgsql" server="{host}" port="{port}" db="{database}" user="{user}" template="event"
        queue.type="FixedArray" queue.size="20000" queue.dequeueBatchSize="1000" queue.workerThreads="4"
        queue.timeoutEnqueue="60000")
}}
input(type="imptcp" address="127.0.0.1" port="{listen}" ruleset="store")
"""


def is_installed() -> bool:
    """Return whether an rsyslog that can write to Postgres is installed."""
    return shutil.which("rsyslogd") is not None and any(Path("/usr/lib").glob("**/rsyslog/ompgsql.so"))


def events_per_s(dsn: str, seconds: float, count: Callable[[], int]) -> float:
    """Return the number of events committed a second; `count` returns the number of stored events."""
    with running(dsn) as port, sending(port):
        deadline_s = time.monotonic() + 30
        while not count():
            if time.monotonic() > deadline_s:
                raise RuntimeError("rsyslog stored nothing in 30 s")
            time.sleep(0.1)
        time.sleep(WARM_UP_S)
        before, started_s = count(), time.monotonic()
        time.sleep(seconds)
        return (count() - before) / (time.monotonic() - started_s)


@contextlib.contextmanager
def running(dsn: str) -> Iterator[int]:
    """Run rsyslog and yield its port."""
    parts = urlsplit(dsn)
    options = parse_qs(parts.query)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "rsyslog.conf"
        config.write_text(
            CONFIG.format(
                directory=directory,
                host=options["host"][0],
                port=options["port"][0],
                database=parts.path.lstrip("/"),
                user=parts.username,
                listen=listen,
            ),
            encoding="utf-8",
        )
        process = subprocess.Popen(["rsyslogd", "-n", "-f", str(config), "-i", str(Path(directory) / "pid")])
        try:
            yield listen
        finally:
            process.kill()  # without waiting for the events in its memory
            process.wait()


@contextlib.contextmanager
def sending(port: int) -> Iterator[None]:
    """Send without a pause."""
    done = threading.Event()
    head = f"<134>1 {datetime.now(UTC).isoformat()} shop order_paid - - - "
    lines = "".join(f"{head}{json.dumps(event(n)['details'])}\n" for n in range(1_000)).encode()

    def send() -> None:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                while not done.is_set():
                    connection.sendall(lines)
            if done.wait(0.1):
                return

    threads = [threading.Thread(target=send, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()

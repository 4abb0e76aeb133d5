"""A Celery worker with processes: the SDK has begun to send in the parent by their fork, and no code is added."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.test_gunicorn import inherit
from tests.support import sink as sinks
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

TASKS, EACH = 300, 100
APPLICATION = f"""
import os
from pathlib import Path
import brain_events
from celery import Celery

brain_events.init(source="tasks", interval_s=float(os.environ["INTERVAL_S"]))
brain_events.log_system_event("boot", "info", "in the parent", {{"pid": os.getpid()}})
folder = Path("broker")
folder.mkdir(exist_ok=True)
app = Celery("shop", broker="filesystem://")
app.conf.broker_transport_options = {{
    "data_folder_in": str(folder),
    "data_folder_out": str(folder),
    "control_folder": str(folder / "control"),
    "polling_interval": 0.02,
}}
app.conf.worker_prefetch_multiplier = 1
app.conf.worker_max_tasks_per_child = int(os.environ["TASKS_PER_CHILD"]) or None
done = os.open("done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@app.task
def work(task):
    for number in range({EACH}):
        details = {{"number": task * {EACH} + number, "worker": os.getpid()}}
        brain_events.log_system_event("visit", "info", "", details)
    os.write(done, b"%d\\n" % task)
"""


@contextmanager
def celery(directory: Path, url: str, tasks_per_child: int = 0, interval_s: float = 0.5) -> Iterator[None]:
    """Run a worker until the end of the block, and SIGTERM; it must end by itself then."""
    (directory / "shop.py").write_text(APPLICATION)
    environ = {**os.environ, "BRAIN_EVENTS_URL": url, "BRAIN_EVENTS_SPOOL_DIR": str(directory / "spool")}
    environ |= {"TASKS_PER_CHILD": str(tasks_per_child), "INTERVAL_S": str(interval_s)}
    send = f"import shop\nfor task in range({TASKS}): shop.work.delay(task)\n"
    quiet = {**environ, "BRAIN_EVENTS_URL": ""}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", send], env=quiet, cwd=directory, timeout=PATIENCE_S, check=True
    )
    log = (directory / "log").open("w")
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "prefork", "--concurrency", "2"]
    process = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env={**environ, "C_FORCE_ROOT": "1"},
        cwd=directory,
        stderr=log,
        stdout=log,
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)
        said = (directory / "log").read_text()
        assert code == 0, said
        assert "brain-events" not in said
    finally:
        process.kill()
        process.wait()
        log.close()


def done(directory: Path) -> list[int]:
    """Return the tasks that have run to their end."""
    path = directory / "done"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def workers(sink: sinks.Sink) -> Counter[int]:
    """Return how many events there are of each process."""
    return Counter(event.details["worker"] for event in sink.events if event.event_type == "visit" and event.details)


def numbers_of(tasks: list[int]) -> list[int]:
    return [task * EACH + number for task in tasks for number in range(EACH)]


def test_a_worker_that_is_stopped_in_the_middle_of_its_work_delivers_each_event_once(
    collector: CollectorProcess, tmp_path: Path
) -> None:
    with celery(tmp_path, collector.url):
        wait_until(lambda: len(done(tmp_path)) > TASKS // 2, "tasks are done")
    tasks = done(tmp_path)
    found = collector.sql("SELECT (details->>'number')::int FROM system_events WHERE event_type = 'visit' ORDER BY 1")
    assert [number for (number,) in found] == numbers_of(tasks)
    assert collector.sql("SELECT count(*) FROM system_events WHERE event_type = 'boot'") == [(1,)]


def test_processes_end_while_the_collector_hangs_and_their_events_wait_on_disk(tmp_path: Path) -> None:
    with sinks.serve() as sink:
        with celery(tmp_path, sink.url):
            wait_until(lambda: len(done(tmp_path)) > TASKS // 10, "tasks are done")
            sink.always = "hang"
            wait_until(lambda: len(done(tmp_path)) > TASKS // 2, "more tasks are done")
        sink.stopping.set()
        sink.always = None
        inherit(tmp_path, sink.url)
        found = [event for event in sink.events if event.event_type == "visit"]
        assert sorted(event.details["number"] for event in found if event.details) == numbers_of(done(tmp_path))
        assert [event.message for event in sink.events if event.event_type == "boot"] == ["in the parent"]


def test_processes_that_end_after_a_number_of_tasks_deliver_at_their_end(tmp_path: Path) -> None:
    """Of 300 tasks, four processes do 50 each and end; two more may live on."""
    with sinks.serve() as sink:
        with celery(tmp_path, sink.url, tasks_per_child=50, interval_s=3600):  # nothing else makes them send the rest
            wait_until(lambda: list(workers(sink).values()).count(50 * EACH) >= 4, "four have ended")
        numbers = [event.details["number"] for event in sink.events if event.event_type == "visit" and event.details]
        assert len(numbers) == len(set(numbers))

"""SIGTERM: what was logged is delivered, and the process ends as it does without the SDK."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.sdk import NEXT, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until

BEGIN = """
import os, signal, sys, threading, time, brain_events
brain_events.init()
for n in range(100):
    brain_events.log_system_event("a", "info", str(n))
"""
KILL = BEGIN + "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(3600)\n"
ALL = sorted(map(str, range(100)))


def stored(sink: Sink) -> list[str]:
    return sorted(event.message for event in sink.events if event.event_type == "a")


def test_a_script_delivers_before_it_ends_by_the_signal(sink: Sink) -> None:
    ended = run_script(KILL, sink.url)

    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGTERM, "", "")
    assert stored(sink) == ALL


def test_what_cannot_be_delivered_then_is_delivered_by_the_next_process(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    assert run_script(KILL, sink.url).returncode == -signal.SIGTERM
    sink.always = None
    run_script(NEXT, sink.url)

    assert stored(sink) == ALL


def test_a_second_signal_does_not_end_it_halfway(sink: Sink) -> None:
    sink.always = "hang"
    again = "threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()\nos.kill"
    script = KILL.replace("os.kill", again)
    assert run_script(script, sink.url).returncode == -signal.SIGTERM
    sink.always = None
    sink.stopping.set()
    run_script(NEXT, sink.url)

    assert stored(sink) == ALL


@pytest.mark.parametrize("moment", ["before init", "after init"])
def test_a_handler_of_the_application_is_left_alone(sink: Sink, moment: str) -> None:
    own = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    script = own + KILL if moment == "before init" else KILL.replace("os.kill", own + "os.kill")
    ended = run_script(script, sink.url)

    assert ended.returncode == 7
    assert stored(sink) == ALL


def test_a_signal_that_is_ignored_ends_nothing(sink: Sink) -> None:
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + KILL.replace("3600", "0")
    script += "signal.raise_signal(signal.SIGTERM)\nprint('lives')"
    ended = run_script(script, sink.url)

    assert (ended.returncode, ended.stdout) == (0, "lives\n")
    assert stored(sink) == ALL


def test_a_process_that_outlives_the_signal_logs_on_in_the_background(sink: Sink) -> None:
    """As the first process of a container does, for which the default is to ignore it; here, it is not raised."""
    by = "os.kill(os.getpid(), signal.SIGTERM)"
    script = BEGIN + "brain_events._process.termination._raise_signal = lambda number: print(number.name)\n"
    script += f"{by}\nbrain_events.log_system_event('a', 'info', 'later')\n"
    script += "print(brain_events.stats().in_memory)\n" + by
    ended = run_script(script, sink.url)

    assert ended.stdout.split() == ["SIGTERM", "1", "SIGTERM"]
    assert stored(sink) == sorted([*ALL, "later"])


def test_a_signal_that_a_thread_raises_again_is_treated_alike(sink: Sink) -> None:
    again = "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    again += "threading.Thread(target=lambda: signal.raise_signal(signal.SIGTERM)).start()\ntime.sleep(3600)"
    ended = run_script(BEGIN + again, sink.url)

    assert ended.returncode == -signal.SIGTERM
    assert stored(sink) == ALL


def test_children_of_a_pool_deliver_when_it_is_left(sink: Sink, tmp_path: Path) -> None:
    script = tmp_path / "application.py"
    script.write_text("""
import multiprocessing, brain_events

def work(n):
    brain_events.log_system_event("a", "info", str(n))

if __name__ == "__main__":
    brain_events.init()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(work, range(100))
""")
    environ = os.environ | {"BRAIN_EVENTS_URL": sink.url}
    assert subprocess.run([sys.executable, script], env=environ, check=False).returncode == 0

    assert stored(sink) == ALL


APPLICATION = """
import brain_events
brain_events.init()

async def plain(scope, receive, send):
    if scope["type"] == "lifespan":
        if LIFESPAN == "none":
            raise RuntimeError("not supported")
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    brain_events.log_system_event("a", "info", scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})

app = plain
"""
SERVERS = {
    "uvicorn": "-m uvicorn --port 0 application:app",
    "uvicorn without lifespan": "-m uvicorn --port 0 --lifespan off application:app",
    "programmatic": "programmatic.py",
    "two workers": "-m uvicorn --port 0 --workers 2 application:app",
    "gunicorn": "-m gunicorn -b 127.0.0.1:0 -k uvicorn_worker.UvicornWorker application:app",
    "gunicorn, preloaded": "-m gunicorn -b 127.0.0.1:0 -k uvicorn_worker.UvicornWorker --preload application:app",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_stopped_delivers_every_event(
    sink: Sink, tmp_path: Path, server: str, number: signal.Signals
) -> None:
    """100 requests, and the signal at once. Neither the middleware nor a lifespan is used."""
    (tmp_path / "application.py").write_text(
        APPLICATION.replace("LIFESPAN", repr("none" if "without" in server else ""))
    )
    (tmp_path / "programmatic.py").write_text("import uvicorn, application\nuvicorn.run(application.app, port=0)\n")
    environ = os.environ | {"BRAIN_EVENTS_URL": sink.url, "BRAIN_EVENTS_SPOOL_DIR": "none", "PYTHONUNBUFFERED": "1"}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *SERVERS[server].split()], cwd=tmp_path, env=environ, stdout=output, stderr=output
        )
    try:
        found: list[str] = []

        def serves() -> bool:
            found[:] = re.findall(r"http://127\.0\.0\.1:(\d+)", log.read_text())
            return bool(found) and ("startup complete" in log.read_text() or "without" in server)

        wait_until(serves, "it serves")
        with httpx.Client(base_url=f"http://127.0.0.1:{found[0]}", timeout=PATIENCE_S) as client:
            for n in range(100):
                assert client.get(f"/?{n}").status_code == 200
        process.send_signal(number)
        process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
    assert stored(sink) == ALL, log.read_text()

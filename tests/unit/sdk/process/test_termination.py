"""Servers that raise SIGTERM again: what was logged is delivered, and the process ends as without the SDK."""

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
RAISE = BEGIN + "signal.raise_signal(signal.SIGTERM)\ntime.sleep(3600)\n"
ALL = sorted(map(str, range(100)))


def stored(sink: Sink) -> list[str]:
    return sorted(event.message for event in sink.events if event.event_type == "a")


def test_a_raised_signal_ends_the_process_after_delivery(sink: Sink) -> None:
    ended = run_script(RAISE, sink.url)

    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGTERM, "", "")
    assert stored(sink) == ALL


def test_what_cannot_be_delivered_then_is_delivered_by_the_next_process(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    assert run_script(RAISE, sink.url).returncode == -signal.SIGTERM
    sink.always = None
    run_script(NEXT, sink.url)

    assert stored(sink) == ALL


def test_no_handler_is_touched_and_those_of_the_application_run_at_once(sink: Sink) -> None:
    script = BEGIN + "print(signal.getsignal(signal.SIGTERM).name)\n"
    script += "signal.signal(signal.SIGTERM, lambda *_: (print(brain_events.stats().logged), sys.exit(7)))\n"
    ended = run_script(script + "signal.raise_signal(signal.SIGTERM)", sink.url)

    assert (ended.returncode, ended.stdout) == (7, "SIG_DFL\n100\n")
    assert stored(sink) == ALL


def test_other_signals_and_those_that_are_ignored_are_raised_as_before(sink: Sink) -> None:
    script = BEGIN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.raise_signal(signal.SIGTERM)\n"
    ended = run_script(script + "print('lives', flush=True)\nsignal.raise_signal(signal.SIGKILL)", sink.url)

    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "lives\n")


def test_a_process_that_outlives_the_signal_logs_on_in_the_background(sink: Sink) -> None:
    """As the first process of a container does, for which the default is to ignore it; here, it is blocked."""
    script = BEGIN + "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
    script += "signal.raise_signal(signal.SIGTERM)\nbrain_events.log_system_event('a', 'info', 'later')\n"
    ended = run_script(script + "print(brain_events.stats().in_memory)", sink.url)

    assert (ended.returncode, ended.stdout) == (0, "1\n")
    assert stored(sink) == sorted([*ALL, "later"])


def test_a_thread_may_raise_it(sink: Sink) -> None:
    script = BEGIN + "threading.Thread(target=lambda: signal.raise_signal(signal.SIGTERM)).start()\ntime.sleep(3600)"

    assert run_script(script, sink.url).returncode == -signal.SIGTERM
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


STOPS = [(server, signal.SIGTERM) for server in SERVERS]
STOPS += [(server, signal.SIGINT) for server in SERVERS if "gunicorn" not in server]  # which kills its workers for that


@pytest.mark.heavy
@pytest.mark.parametrize(("server", "number"), STOPS)
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

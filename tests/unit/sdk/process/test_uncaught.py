"""Uncaught exceptions: one event for each object, and the program ends as it does without the SDK."""

import re
import subprocess

import pytest

from brain_events.config import Config
from brain_events.wire import Event
from tests.support.sdk import run_script
from tests.support.sink import Sink

INIT = """
import sys, threading, brain_events
brain_events.init()
brain_events.log_system_event("before", "info", "")
"""


def run(sink: Sink, script: str, *, init: str = INIT, **environ: str) -> subprocess.CompletedProcess[str]:
    return run_script(init + script, sink.url, **environ)


def uncaught(sink: Sink) -> list[Event]:
    assert [event.event_type for event in sink.events].count("before") == 1
    return [event for event in sink.events if event.event_type == "uncaught_exception"]


def test_an_exception_that_ends_the_program_is_a_critical_event(sink: Sink) -> None:
    ended = run(sink, "def fail():\n    1 / 0\nfail()")

    (event,) = uncaught(sink)
    assert (event.severity, event.message) == ("critical", "ZeroDivisionError: division by zero")
    assert event.details is not None
    assert event.details["thread"] == "MainThread"
    assert "in fail" in event.details["exception"]["traceback"]
    assert ended.returncode == 1
    assert ended.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_the_output_and_the_exit_status_are_those_without_the_sdk(sink: Sink) -> None:
    script = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('a') from error"
    with_it, without = run(sink, script), run(sink, script, BRAIN_EVENTS_CAPTURE_UNCAUGHT="0")

    assert (with_it.returncode, with_it.stdout, with_it.stderr) == (
        without.returncode, without.stdout, without.stderr
    )  # fmt: skip


def test_an_exception_that_ends_a_thread_is_an_error(sink: Sink) -> None:
    ended = run(sink, "thread = threading.Thread(target=lambda: 1 / 0, name='shop')\nthread.start()\nthread.join()")

    (event,) = uncaught(sink)
    assert (event.severity, event.details and event.details["thread"]) == ("error", "shop")
    assert ended.returncode == 0
    assert "Exception in thread shop:" in ended.stderr


def test_an_exception_that_cannot_be_raised_is_an_error(sink: Sink) -> None:
    ended = run(sink, "class A:\n    def __del__(self):\n        1 / 0\nA()")

    (event,) = uncaught(sink)
    assert event.severity == "error"
    assert event.details is not None
    assert re.search(r"A\.__del__", event.details["object"])
    assert "Exception ignored" in ended.stderr


def test_an_exception_of_a_task_reaches_the_main_thread(sink: Sink) -> None:
    run(sink, "import asyncio\nasync def main():\n    1 / 0\nasyncio.run(main())")

    assert [event.message for event in uncaught(sink)] == ["ZeroDivisionError: division by zero"]


@pytest.mark.parametrize("ending", ["KeyboardInterrupt", "SystemExit(3)", "SystemExit"])
def test_an_end_on_purpose_is_no_event(sink: Sink, ending: str) -> None:
    run(sink, f"def end(): raise {ending}\nthread = threading.Thread(target=end)\nthread.start()\nthread.join()\nend()")

    assert uncaught(sink) == []


TWICE = {
    "log_system_event": """
try:
    1 / 0
except ZeroDivisionError:
    brain_events.log_system_event("a", "info", "", exc_info=True)
    raise
""",
    "logging": """
import logging
logging.getLogger().addHandler(brain_events.EventsHandler())
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("")
    raise
""",
    "from hook to hook": """
threading.excepthook = lambda args: sys.excepthook(args.exc_type, args.exc_value, args.exc_traceback)
brain_events.init()
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
""",
}


@pytest.mark.parametrize("way", TWICE)
def test_an_exception_is_logged_once(sink: Sink, way: str) -> None:
    run(sink, TWICE[way])

    found = [event for event in sink.events if event.details and "exception" in event.details]
    assert len(found) == 1


def test_the_hooks_of_the_application_are_called_before_and_after_init(sink: Sink) -> None:
    hook = "def hook(name, before):\n    return lambda *args: (print(name, len(args)), before(*args))\n"
    install = "sys.{0} = hook('{0} {1}', sys.{0})\n"
    script = hook + "".join(install.format(name, "before") for name in ("excepthook", "unraisablehook"))
    script += "brain_events.init()\nbrain_events.log_system_event('before', 'info', '')\n"
    script += "".join(install.format(name, "after") for name in ("excepthook", "unraisablehook"))
    script += "class A:\n    def __del__(self):\n        1 / 0\nA()\nraise SystemError"
    ended = run(sink, script, init="import sys, brain_events\n")

    assert ended.stdout.splitlines() == [
        "unraisablehook after 1", "unraisablehook before 1", "excepthook after 3", "excepthook before 3"
    ]  # fmt: skip
    assert len(uncaught(sink)) == 2


def test_an_exception_that_cannot_be_printed_is_an_event_all_the_same(sink: Sink) -> None:
    run(
        sink,
        "class Hostile(Exception):\n    def __str__(self):\n        raise ValueError\n"
        "    def __setattr__(self, *_):\n        raise ValueError\nraise Hostile",
    )

    (event,) = uncaught(sink)
    assert event.message.startswith("__main__.Hostile: ")


@pytest.mark.parametrize("init", ["capture_uncaught=False", ""])
def test_it_can_be_switched_off(sink: Sink, init: str) -> None:
    environ = {} if init else {"BRAIN_EVENTS_CAPTURE_UNCAUGHT": "off"}
    run(sink, f"brain_events.init({init})\n1 / 0", **environ)

    assert uncaught(sink) == []


def test_a_typo_at_a_prompt_is_no_event(sink: Sink) -> None:
    run(sink, "sys.ps1 = '>>> '\n1 / 0")

    assert uncaught(sink) == []


def test_nothing_is_hooked_at_import_or_by_a_client() -> None:
    script = "import sys, brain_events\nbrain_events.Client(brain_events.Config(url='http://127.0.0.1:1')).close()\n"
    script += "print(sys.excepthook is sys.__excepthook__)"

    assert run_script(script).stdout == "True\n"
    assert "capture_uncaught" not in Config.__struct_fields__

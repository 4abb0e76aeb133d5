"""Before init, at init, and at a second init."""

from pathlib import Path

import pytest

from brain_events._process.early import MAX_EVENTS
from tests.support.sdk import run_script
from tests.support.sink import Sink


def test_events_logged_before_init_are_delivered_under_the_source_given_to_init(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.log_system_event("early", "info", "first", {"n": 1})
        brain_events.log_system_event("early", "info", "second", source="elsewhere")
        brain_events.init(source="shop")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert [(event.message, event.source) for event in sink.events] == [("first", "shop"), ("second", "elsewhere")]


def test_the_last_256_wait_for_init_and_the_rest_is_counted(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        for n in range(300):
            brain_events.log_system_event("early", "info", str(n))
        print(brain_events.stats().dropped, brain_events.stats().in_memory)
        brain_events.init()
        print(brain_events.flush(120), brain_events.stats().logged, brain_events.stats().delivered)
        """,
        sink.url,
    )
    assert done.stdout == "{'before_init': 44} 256\nTrue 300 256\n", done.stderr
    early = [event for event in sink.events if event.event_type == "early"]
    assert [event.message for event in early] == [str(n) for n in range(300 - MAX_EVENTS, 300)]


def test_without_a_url_init_warns_once_and_events_wait_on(sink: Sink) -> None:
    done = run_script(
        f"""
        import brain_events
        brain_events.init()
        brain_events.log_system_event("early", "info", "kept")
        brain_events.init({sink.url!r})
        """
    )
    assert done.stderr == "events are not sent: pass a url to init(), or set BRAIN_EVENTS_URL\n"
    assert [event.message for event in sink.events] == ["kept"]


def test_a_second_init_delivers_what_the_first_still_held(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.init(source="first", interval_s=3600)
        brain_events.log_system_event("one", "info", "")
        brain_events.init(source="second")
        brain_events.log_system_event("two", "info", "")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert sorted((event.event_type, event.source) for event in sink.events) == [("one", "first"), ("two", "second")]


def test_arguments_win_over_the_environment(sink: Sink) -> None:
    done = run_script(
        f"""
        import os, brain_events
        os.environ["BRAIN_EVENTS_SOURCE"] = "from the environment"
        os.environ["BRAIN_EVENTS_API_KEY"] = "key from the environment"
        brain_events.init(url={sink.url!r}, source="from the call")
        brain_events.log_system_event("settings", "info", "")
        """,
        "http://127.0.0.1:9",
    )
    assert done.stderr == ""
    assert [event.source for event in sink.events] == ["from the call"]
    assert sink.requests[0].headers["authorization"] == "Bearer key from the environment"


def test_a_forgotten_init_is_told_once_at_exit_with_the_number_of_events(sink: Sink) -> None:
    log = "import brain_events\nfor n in range(300):\n    brain_events.log_system_event('early', 'info', str(n))\n"
    told = "brain-events: init() was not called; events that were not sent: 300\n"
    assert run_script(log, sink.url).stderr == told
    assert run_script("import brain_events", sink.url).stderr == ""
    assert run_script(log + "brain_events.init()", sink.url).stderr == ""
    for script in (log + "brain_events.init()", log.replace("\n", "\nbrain_events.init()\n", 1)):
        assert "init() was not called" not in run_script(script).stderr


@pytest.mark.parametrize("settings", ["", "before_send=lambda event: None"])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_child_of_multiprocessing_initializes_itself_by_the_environment(
    sink: Sink, tmp_path: Path, method: str, settings: str
) -> None:
    """It does not run what stands under `__main__`. Nothing leaves that a hook of the parent should have seen."""
    script = tmp_path / "application.py"
    script.write_text(f"""
import multiprocessing, brain_events

def work(n):
    brain_events.log_system_event("early", "info", str(n))

if __name__ == "__main__":
    if {settings!r}:
        brain_events.init({settings})
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    [child.start() for child in children]
    [child.join() for child in children]
    brain_events.init()
""")

    done = run_script(f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}]))", sink.url)
    assert set(done.stderr.splitlines()) <= {"brain-events: init() was not called; events that were not sent: 1"}
    assert sorted(event.message for event in sink.events) == ([] if settings else ["0", "1", "2"])


def test_a_forked_child_tells_of_a_forgotten_init_once_and_for_its_own_events(sink: Sink) -> None:
    script = """
        import os, sys, brain_events
        brain_events.log_system_event("early", "info", "of the parent")
        if os.fork():
            os.wait()
            os._exit(0)
        brain_events.log_system_event("early", "info", "of the child")
        brain_events.log_system_event("early", "info", "of the child")
    """
    done = run_script(script, sink.url)
    assert done.stderr == "brain-events: init() was not called; events that were not sent: 2\n"

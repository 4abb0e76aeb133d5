"""Exit, fork and signals: a process loses nothing because of how it lives or ends."""

import signal
from types import FrameType

from brain_events import Client
from brain_events.testing import MemoryTransport
from tests.support.sdk import run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S


def test_a_script_that_logs_and_ends_delivers_everything(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.init()
        for n in range(1234):
            brain_events.log_system_event("script", "info", str(n))
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert [event.message for event in sink.events] == [str(n) for n in range(1234)]


def test_a_script_that_ends_by_an_exception_delivers_everything(sink: Sink) -> None:
    run_script(
        """
        import brain_events
        brain_events.init()
        brain_events.log_system_event("script", "error", "last words")
        raise SystemError
        """,
        sink.url,
    )
    assert [event.message for event in sink.events] == ["last words", "SystemError"]


def test_an_event_logged_by_a_later_exit_hook_is_delivered(sink: Sink) -> None:
    run_script(
        """
        import atexit, brain_events
        brain_events.init()
        atexit.register(brain_events.log_system_event, "script", "info", "from a hook")
        """,
        sink.url,
    )
    assert [event.message for event in sink.events] == ["from a hook"]


def test_loss_at_exit_is_one_line_on_stderr() -> None:
    done = run_script(
        """
        import logging, brain_events
        logging.getLogger("brain_events").setLevel("CRITICAL")
        brain_events.init()
        for n in range(3):
            brain_events.log_system_event("script", "info", "")
        """,
        "http://127.0.0.1:9",
        BRAIN_EVENTS_SPOOL_DIR="none",
    )
    assert done.stderr == "brain-events: 3 of 3 events were lost: {'unsent': 3}\n"


def test_a_collector_that_never_answers_does_not_keep_a_process_from_ending(sink: Sink) -> None:
    sink.always = "hang"
    done = run_script(
        """
        import brain_events
        brain_events.init(request_timeout_s=3600)
        brain_events.log_system_event("script", "info", "")
        print(brain_events.flush(1))
        """,
        sink.url,
    )
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert "were lost" not in done.stderr
    assert len({request.key for request in sink.requests}) == 1


def test_a_forked_child_delivers_its_own_events_and_leaves_the_parents_alone(sink: Sink) -> None:
    done = run_script(
        """
        import os, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("fork", "info", "parent")
        pid = os.fork()
        if pid == 0:
            brain_events.log_system_event("fork", "info", "child")
            print(brain_events.flush(120), brain_events.stats().logged, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        sink.url,
    )
    assert done.stdout == "True 1\n"
    assert done.stderr == ""
    assert sorted(event.message for event in sink.events) == ["child", "parent"]


def test_early_events_are_delivered_by_the_parent_alone(sink: Sink) -> None:
    done = run_script(
        """
        import os, brain_events
        brain_events.log_system_event("fork", "info", "early")
        pid = os.fork()
        brain_events.init()
        if pid:
            os.waitpid(pid, 0)
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert [event.message for event in sink.events] == ["early"]


def test_a_child_of_multiprocessing_delivers_at_its_end(sink: Sink) -> None:
    done = run_script(
        """
        import multiprocessing, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("fork", "info", "parent")
        def work(n):
            brain_events.log_system_event("fork", "info", f"child {n}")
        children = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(3)]
        for child in children: child.start()
        for child in children: child.join()
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert sorted(event.message for event in sink.events) == ["child 0", "child 1", "child 2", "parent"]


def test_a_signal_handler_may_log_at_any_moment(client: Client, memory: MemoryTransport) -> None:
    handled = 0

    def log_too(_signal: int, _frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        client.log("signal", "info", "", {"n": handled})

    before = signal.signal(signal.SIGALRM, log_too)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        logged = 0
        while handled < 200:
            client.log("loop", "info", "", {"n": logged})
            logged += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert client.flush(PATIENCE_S)
    assert client.stats().delivered == logged + handled == len(memory.events)

"""Fork, whatever does it: children deliver what is theirs, and hold nothing of the parent's."""

from pathlib import Path

import pytest

from tests.support.sdk import NEXT, run_script
from tests.support.sink import Sink


def test_a_fork_at_any_moment_after_the_first_event_is_safe(sink: Sink) -> None:
    """The worker of the parent is starting, importing, connecting: nothing of that may hang a child."""
    done = run_script(
        """
        import os, signal, time, brain_events
        brain_events.init()
        children = []
        brain_events.log_system_event("fork", "info", "parent")
        started = time.monotonic()
        while time.monotonic() - started < 0.1:
            if not (pid := os.fork()):
                signal.alarm(120)
                brain_events.log_system_event("fork", "info", f"child {len(children)}")
                os._exit(not brain_events.flush(20))
            children.append(pid)
            time.sleep(0.002)
        print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}, len(children))
        """,
        sink.url,
    )
    codes, _, count = done.stdout.rpartition(" ")
    assert codes == "{0}", done.stdout + done.stderr
    expected = ["parent", *(f"child {n}" for n in range(int(count)))]
    assert sorted(event.message for event in sink.events) == sorted(expected)


def test_delivering_imports_nothing(sink: Sink) -> None:
    """A child that is forked while another thread imports hangs at its own import of the same module."""
    done = run_script(
        """
        import sys, brain_events
        brain_events.init(durable=True)
        brain_events.log_system_event("a", "info", "")  # the caller's path
        before = set(sys.modules)
        brain_events.flush()
        print(sorted(set(sys.modules) - before))
        """,
        sink.url.replace("127.0.0.1", "localhost"),
    )
    assert done.stdout == "[]\n", done.stderr


CHILDREN = """
import multiprocessing, sys, brain_events

def work(number):
    brain_events.init()
    brain_events.log_system_event("child", "info", str(number))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children: child.start()
    for child in children: child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_deliver_at_their_end(sink: Sink, tmp_path: Path, method: str) -> None:
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    done = run_script(
        f"""
        import runpy, sys
        sys.argv = ["children.py", {method!r}]
        runpy.run_path({str(script)!r}, run_name="__main__")
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR="none",
        PYTHONPATH=str(tmp_path),
    )
    assert done.stderr == ""
    assert sorted(event.message for event in sink.events) == ["0", "1", "2"]


def test_workers_of_a_preloading_server_need_nothing(sink: Sink) -> None:
    """As gunicorn with `preload_app`: init and events in the parent, four forked workers that end by SIGTERM."""
    done = run_script(
        """
        import os, signal, sys, brain_events
        brain_events.init()
        brain_events.log_system_event("server", "info", "loaded")
        workers = []
        ready, tell = os.pipe()
        for number in range(4):
            if not (pid := os.fork()):
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
                for n in range(250):
                    brain_events.log_system_event("server", "info", f"{number}-{n}")
                os.write(tell, b"x")
                signal.pause()
            workers.append(pid)
        for _ in workers: os.read(ready, 1)
        for pid in workers: os.kill(pid, signal.SIGTERM)
        print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers})
        """,
        sink.url,
    )
    assert done.stdout == "{0}\n", done.stderr
    expected = ["loaded", *(f"{number}-{n}" for number in range(4) for n in range(250))]
    assert sorted(event.message for event in sink.events) == sorted(expected)


def test_a_child_that_ends_by_os_exit_leaves_what_it_had_on_disk_and_its_parents_events_alone(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    done = run_script(
        """
        import os, time, brain_events
        brain_events.init(interval_s=0.01)
        brain_events.log_system_event("a", "info", "parent, before")
        if not (pid := os.fork()):
            brain_events.log_system_event("a", "info", "child")
            while not brain_events.stats().spooled: time.sleep(0.01)
            os._exit(0)
        os.waitpid(pid, 0)
        brain_events.log_system_event("a", "info", "parent, after")
        """,
        sink.url,
    )
    assert "were lost" not in done.stderr
    sink.always = None
    run_script(
        NEXT,
        sink.url,
    )
    found = sorted(event.message for event in sink.events if event.event_type == "a")
    assert found == ["child", "parent, after", "parent, before"]


def test_a_child_does_not_hold_the_lock_of_its_parents_outbox(sink: Sink, tmp_path: Path) -> None:
    """Else nobody could adopt the files of a dead parent while a child of it lives."""
    done = run_script(
        """
        import os, time, brain_events
        from brain_events._queue.process_dir import dead_dirs
        spool = os.environ["BRAIN_EVENTS_SPOOL_DIR"]
        brain_events.init(durable=True, interval_s=3600)
        told, tell = os.pipe()
        said, say = os.pipe()
        if not os.fork():  # the parent, which dies by kill -9 while its child lives
            brain_events.log_system_event("a", "info", "of the parent")
            if not os.fork():
                os.write(say, b"x")
                os.read(told, 1)
                os._exit(0)
            os.read(said, 1)
            os.kill(os.getpid(), 9)
        os.wait()
        (name,) = os.listdir(spool)
        print([found.path.rpartition("/")[2] == name for found in dead_dirs(spool, name.partition("-")[0])])
        os.write(tell, b"x")
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path / "spool"),
    )
    assert done.stdout == "[True]\n", done.stderr

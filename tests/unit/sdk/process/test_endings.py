"""Ends and forks that go wrong: interrupted, out of order, in the middle of a call, with a lock held elsewhere."""

import gc
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path
from textwrap import dedent

import pytest

from brain_events import Client
from brain_events.testing import MemoryTransport
from tests.support.sdk import NEXT, fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until


def stored(sink: Sink) -> list[str]:
    return sorted(event.message for event in sink.events if event.event_type == "a")


# Interrupted ends.


@pytest.mark.parametrize("moment", ["join", "drain"])
def test_a_ctrl_c_during_exit_leaves_what_is_left_on_disk(sink: Sink, moment: str) -> None:
    """While it waits for the worker, which hangs in a request; while it sends itself."""
    sink.always = "hang"
    script = f"""
        import os, signal, brain_events
        brain_events.init(request_timeout_s=3600, interval_s=3600)
        if {moment!r} == "join":
            brain_events.log_system_event("a", "info", "0")
            brain_events.flush(0.3)
        else:  # as where no thread can be started: the exit hook sends
            brain_events._process.default._current._worker._start = lambda: None
        for n in range({moment!r} == "join", 3):
            brain_events.log_system_event("a", "info", str(n))
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    """
    done = run_script(script, sink.url)
    assert "were lost" not in done.stderr
    sink.always = None
    sink.stopping.set()
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


def test_a_ctrl_c_during_exit_without_an_outbox_says_what_is_lost(sink: Sink) -> None:
    sink.always = "hang"
    done = run_script(
        """
        import os, signal, brain_events
        brain_events.init(request_timeout_s=3600, interval_s=0.01)
        brain_events.log_system_event("a", "info", "")
        brain_events.flush(0.2)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR="none",
    )
    assert "brain-events: 1 of 1 events were lost: {'unsent': 1}\n" in done.stderr


CTRL_C_AGAIN = {
    "lines are taken": "buffer, 'take'",
    "a part is completed": "memory_journal.MappedPart, 'complete'",
    "a batch is sealed": "memory_journal, 'seal'",
    "a directory is made": "process_dir, 'claim'",
    "a file is written": "os, 'rename'",
    "the outbox is closed": "worker._outbox, 'close'",
    "the connection is closed": "worker.delivery._transport, 'close'",
}


@pytest.mark.parametrize("moment", CTRL_C_AGAIN)
@pytest.mark.parametrize("first", ["while it waits", "not before"])
def test_a_second_ctrl_c_in_the_middle_of_saving_loses_nothing(sink: Sink, moment: str, first: str) -> None:
    """It comes before and after each call of one step: what is half done is done first."""
    sink.always = "hang"
    done = run_script(
        f"""
        import os, signal, brain_events
        from brain_events._queue import memory_journal, process_dir
        brain_events.init(request_timeout_s=3600, interval_s=3600)
        brain_events.log_system_event("a", "info", "0")
        brain_events.flush(0.3)
        for n in range(1, 20):
            brain_events.log_system_event("a", "info", str(n), {{"more": os.urandom(30_000).hex()}})
        worker = brain_events._process.default._current._worker
        buffer = worker.buffer
        def interrupt(place, name):
            call = getattr(place, name)
            def interrupted(*args, **more):
                signal.raise_signal(signal.SIGINT)
                try: return call(*args, **more)
                finally: signal.raise_signal(signal.SIGINT)
            setattr(place, name, interrupted)
        interrupt({CTRL_C_AGAIN[moment]})
        if {first!r} == "while it waits":
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, 0.3)
        """,
        sink.url,
    )
    assert "were lost" not in done.stderr
    assert done.stderr.count("KeyboardInterrupt") == done.stderr.count("Traceback") == 1
    sink.always = None
    sink.stopping.set()
    run_script(NEXT, sink.url)
    assert stored(sink) == sorted(map(str, range(20)))
    assert len(sink.stored) == len({request.key for request in sink.requests})


def test_a_ctrl_c_just_before_the_close_begins_loses_nothing(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    done = run_script(
        """
        import signal, brain_events
        brain_events.init(interval_s=3600)
        for n in range(3):
            brain_events.log_system_event("a", "info", str(n))
        worker = brain_events._process.default._current._worker
        close = worker.close
        def interrupted(timeout_s):
            worker.close = close
            signal.raise_signal(signal.SIGINT)
        worker.close = interrupted
        """,
        sink.url,
    )
    assert "were lost" not in done.stderr
    assert "KeyboardInterrupt" in done.stderr
    sink.always = None
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


@pytest.mark.parametrize("durable", ["0", "1"])
@pytest.mark.parametrize("period_s", [0.0007, 0.0031, 0.013])
def test_a_hail_of_ctrl_c_during_exit_loses_nothing(sink: Sink, durable: str, period_s: float) -> None:
    sink.always = "hang"
    done = run_script(
        f"""
        import atexit, signal, brain_events
        hits = []
        def hit(*_):
            hits.append(1)
            raise KeyboardInterrupt
        atexit.register(lambda: print(len(hits)))  # the last
        atexit.register(lambda: None)  # here comes what is still on its way
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # after our hook; in C, where no handler can run
        brain_events.init(request_timeout_s=3600, interval_s=3600)
        brain_events.log_system_event("a", "info", "0")
        brain_events.flush(0.3)
        for n in range(1, 2000):
            brain_events.log_system_event("a", "info", str(n), {{"more": "x" * 700}})
        signal.signal(signal.SIGALRM, hit)
        atexit.register(signal.setitimer, signal.ITIMER_REAL, {period_s}, {period_s})
        """,
        sink.url,
        BRAIN_EVENTS_DURABLE=durable,
    )
    assert done.returncode == 0
    assert "were lost" not in done.stderr
    assert int(done.stdout) > 0  # Python's own words on stderr may be cut by the next one
    sink.always = None
    sink.stopping.set()
    run_script(NEXT, sink.url)
    assert sorted(map(int, stored(sink))) == list(range(2000))


def test_a_handler_that_exits_is_heard_when_all_is_saved_and_handlers_are_as_before(sink: Sink) -> None:
    """SIGTERM in the middle of a close is no Ctrl-C that was pressed twice: its handler runs, once, afterwards."""
    sink.always = (503, {}, b"")
    done = run_script(
        """
        import os, signal, sys, brain_events
        heard = []
        def leave(number, frame):
            heard.append(brain_events.stats().spooled)
            sys.exit(7)
        signal.signal(signal.SIGTERM, leave)
        brain_events.init(interval_s=3600)
        for n in range(3):
            brain_events.log_system_event("a", "info", str(n))
        rename = os.rename
        def renamed(*args):
            signal.raise_signal(signal.SIGTERM)
            rename(*args)
        os.rename = renamed
        try:
            brain_events.close()
        except SystemExit as error:
            print(error.code, heard, signal.getsignal(signal.SIGTERM) is leave, brain_events.stats().in_memory)
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
        sink.url,
    )
    assert done.stdout == "7 [3] True 0\nTrue\n", done.stderr


def test_a_child_that_another_thread_forks_during_a_close_has_the_handlers_of_the_application(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    done = run_script(
        """
        import os, signal, threading, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("a", "info", "0")
        rename, closing, forked, codes = os.rename, threading.Event(), threading.Event(), []
        def renamed(*args):
            closing.set()
            assert forked.wait(120)
            rename(*args)
        os.rename = renamed
        def fork():
            assert closing.wait(120)
            if not (pid := os.fork()):
                try:
                    os._exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
                finally:
                    os._exit(9)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            forked.set()
        thread = threading.Thread(target=fork)
        thread.start()
        brain_events.close()
        thread.join()
        print(codes, signal.getsignal(signal.SIGINT) is signal.default_int_handler, brain_events.stats().spooled)
        """,
        sink.url,
    )
    assert done.stdout == "[0] True 1\n", done.stderr


def test_a_ctrl_c_that_is_repeated_ends_even_a_disk_that_hangs(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    done = run_script(
        """
        import os, signal, time, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("a", "info", "")
        os.rename = lambda *_: time.sleep(3600)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        """,
        sink.url,
    )
    assert "brain-events: 1 of 1 events were lost: {'unsent': 1}\n" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_that_nobody_handles_costs_nothing_in_durable_mode(sink: Sink, number: int) -> None:
    sink.always = (503, {}, b"")
    script = """
        import signal, brain_events
        brain_events.init(durable=True)
        for n in range(3):
            brain_events.log_system_event("a", "info", str(n))
        signal.raise_signal({number})
    """
    assert run_script(script.format(number=int(number)), sink.url).returncode == -number
    sink.always = None
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "end",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "os.close(1); os.close(2)",
        "logging.shutdown()",
        "t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()",
        "threading.Timer(0.2, brain_events.log_system_event, ('a', 'info', '2')).start()",
        "sys.exit(3)",
        "import logging.config; logging.config.dictConfig({'version': 1})",
    ],
)
def test_however_a_process_ends_everything_arrives(sink: Sink, end: str) -> None:
    script = f"""
        import logging, os, sys, threading, brain_events
        brain_events.init(interval_s=3600)
        for n in range({2 if "Timer" in end else 3}):
            brain_events.log_system_event("a", "info", str(n))
        {end}
    """
    run_script(script, sink.url)
    assert stored(sink) == ["0", "1", "2"]


@pytest.mark.parametrize("spool", ["none", "spool"])
def test_what_is_logged_after_the_exit_hook_is_delivered(sink: Sink, tmp_path: Path, spool: str) -> None:
    """By a hook that was registered before `init`, and by `logging.shutdown`, which flushes a buffering handler."""
    done = run_script(
        """
        import atexit, logging, logging.handlers
        import brain_events
        atexit.register(brain_events.log_system_event, "a", "info", "from an earlier hook")
        brain_events.init()
        late = logging.handlers.MemoryHandler(100, logging.CRITICAL, brain_events.EventsHandler())
        logging.getLogger().addHandler(late)
        logging.getLogger().warning("from logging", extra={"event_type": "a"})
        brain_events.log_system_event("a", "info", "in time")
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=spool if spool == "none" else str(tmp_path / spool),
    )
    assert done.stderr == ""
    assert stored(sink) == ["from an earlier hook", "from logging", "in time"]


def test_what_is_logged_after_the_exit_hook_in_an_outage_waits_on_disk_or_is_told(sink: Sink) -> None:
    script = """
        import atexit, brain_events
        atexit.register(brain_events.log_system_event, "a", "info", "late")
        brain_events.init()
    """
    sink.always = (503, {}, b"")
    done = run_script(script, sink.url, BRAIN_EVENTS_SPOOL_DIR="none")
    assert "brain-events: 1 of 1 events were lost: {'unsent': 1}\n" in done.stderr
    assert "lost" not in run_script(script, sink.url).stderr
    sink.always = None
    run_script(NEXT, sink.url)
    assert stored(sink) == ["late"]


# The worker.


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError])
def test_no_exception_ends_the_thread_that_delivers(error: type[BaseException]) -> None:
    class Raising(MemoryTransport):
        def send(self, batch, timeout_s):  # type: ignore[no-untyped-def]
            if len(self.attempts) < 2:
                self.attempts.append(batch)
                raise error
            return super().send(batch, timeout_s)

    memory = Raising()
    with fast_client(transport=memory) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
    assert len({batch.key for batch in memory.attempts}) == 1


# Fork.


def test_a_fork_while_another_thread_holds_any_lock_of_ours_is_safe(sink: Sink) -> None:
    done = run_script(
        """
        import logging, os, signal, threading, brain_events
        brain_events.init(interval_s=3600, durable=True)
        brain_events.log_system_event("a", "info", "parent")
        brain_events.flush()
        worker = brain_events._process.default._current._worker
        spare = threading.Lock(), threading.RLock()
        kinds = type(spare[0]), type(spare[1])
        ours = [*vars(worker).values(), *vars(worker.delivery).values()]
        locks = [lock for lock in ours if isinstance(lock, kinds)]
        codes = []
        for number, lock in enumerate(locks):
            held, release = threading.Event(), threading.Event()
            def hold():
                got = lock.acquire(blocking=False) or lock.locked()
                held.set()
                release.wait()
                try: lock.release()
                except RuntimeError: pass
            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            if not (pid := os.fork()):
                signal.alarm(120)
                brain_events.log_system_event("a", "info", f"child {number}")
                if not (grandchild := os.fork()):
                    signal.alarm(120)
                    brain_events.log_system_event("a", "info", f"grandchild {number}")
                    os._exit(not brain_events.close(120))
                code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
                os._exit(code or not brain_events.close(120))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            release.set()
            thread.join()
        print(len(locks), set(codes))
        """,
        sink.url,
    )
    assert done.stdout == "3 {0}\n", done.stderr
    expected = ["parent", *(f"{who} {n}" for n in range(3) for who in ("child", "grandchild"))]
    assert stored(sink) == sorted(expected)


def test_a_child_of_a_client_that_was_forgotten_does_not_hold_its_lock(tmp_path: Path) -> None:
    done = run_script(
        """
        import gc, os
        from brain_events._queue.process_dir import dead_dirs
        from brain_events.testing import MemoryTransport
        from tests.support.sdk import fast_client
        spool = os.environ["SPOOL"]
        told, tell = os.pipe()
        said, say = os.pipe()
        if not os.fork():
            failing = MemoryTransport(*[OSError()] * 100_000)
            client = fast_client("http://x", failing, spool_dir=spool, durable=True)
            client.log("a", "info", "")
            client.flush(0.1)
            del client
            gc.collect()
            if not os.fork():
                os.write(say, b"x")
                os.read(told, 1)
                os._exit(0)
            os.read(said, 1)
            os.kill(os.getpid(), 9)
        os.wait()
        (name,) = os.listdir(spool)
        print(len(list(dead_dirs(spool, name.partition("-")[0]))))
        os.write(tell, b"x")
        """,
        SPOOL=str(tmp_path / "spool"),
        PYTHONPATH=":".join([str(Path(__file__).parents[4]), *sys.path]),
    )
    assert done.stdout == "1\n", done.stderr


def test_a_parent_dies_and_its_child_lives_on_and_init_after_fork_replaces_what_was_inherited(sink: Sink) -> None:
    script = dedent("""
        import os, sys, time, brain_events
        brain_events.init(source="parent", interval_s=3600)
        brain_events.log_system_event("a", "info", "0")
        if os.fork():
            brain_events.close()
            os._exit(0)
        while os.getppid() == int(sys.argv[1]): time.sleep(0.01)
        brain_events.log_system_event("a", "info", "1")
        brain_events.init(source="child")
        brain_events.log_system_event("a", "info", "2")
    """)
    environ = {"BRAIN_EVENTS_URL": sink.url, "PYTHONPATH": ":".join(sys.path)}
    script = script.replace("int(sys.argv[1])", "parent").replace("if os.fork()", "parent = os.getpid()\nif os.fork()")
    subprocess.run([sys.executable, "-c", script], env=environ, timeout=PATIENCE_S, check=True, capture_output=True)
    wait_until(lambda: stored(sink) == ["0", "1", "2"])
    assert {event.message: event.source for event in sink.events} == {"0": "parent", "1": "parent", "2": "child"}


# In the middle of a call.


def test_a_finalizer_a_weak_reference_and_a_warning_may_log_anywhere(client: Client, memory: MemoryTransport) -> None:
    logged = 0

    def log(*_: object) -> None:
        nonlocal logged
        logged += 1
        client.log("finalizer", "info", "", {"n": logged})
        client.stats()

    class Noisy:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            log()

        def __repr__(self) -> str:
            warnings.warn("looked at", stacklevel=1)
            return "noisy"

    before = gc.get_threshold()
    gc.set_threshold(5)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = log  # type: ignore[assignment]  # any function will do, whatever typeshed says
        for n in range(1000):
            noisy = Noisy()
            reference = weakref.ref(noisy, log)
            client.log("loop", "info", "", {"n": n, "noisy": noisy})
            del noisy
            assert reference is not None
    gc.set_threshold(*before)
    gc.collect()
    assert client.flush(PATIENCE_S)
    assert client.stats().delivered == 1000 + logged == len(memory.events)


def test_a_hook_that_sleeps_holds_up_nobody_else() -> None:
    entered, leave = threading.Event(), threading.Event()

    def before_send(event):  # type: ignore[no-untyped-def]
        if event.message == "slow":
            entered.set()
            leave.wait(PATIENCE_S)
        return event

    with fast_client(transport=MemoryTransport(), before_send=before_send) as client:
        thread = threading.Thread(target=client.log, args=("a", "info", "slow"))
        thread.start()
        assert entered.wait(PATIENCE_S)
        client.log("a", "info", "quick")
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
        leave.set()
        thread.join()


# A thousand lives.


def test_a_thousand_clients_leave_no_thread_no_descriptor_and_no_reference(sink: Sink, tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    references: list[weakref.ref[object]] = []
    with fast_client(sink.url) as client:
        client.log("a", "info", "")
    del client
    before = len(list(descriptors.iterdir()))
    for n in range(1000):
        with fast_client(sink.url, spool_dir=str(tmp_path / "spool"), durable=n % 100 == 1) as client:
            if n % 20 == 1:
                client.log("a", "info", "")
        references += [weakref.ref(client), weakref.ref(client._worker)]
    del client
    gc.collect()
    assert [reference for reference in references if reference() is not None] == []
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "brain-events"])
    wait_until(lambda: len(list(descriptors.iterdir())) <= before)
    assert len(sink.events) == 51

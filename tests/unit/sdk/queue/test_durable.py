"""Durable mode: what `log` has returned for is on disk, and is delivered once, whatever happens then."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from brain_events import Client
from brain_events._delivery.transport import Response
from brain_events._queue.batch import unseal
from brain_events._queue.batch_file import decode
from brain_events._queue.journal import Journal
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until

DESTINATION = "http://collector.invalid"
NEVER_S = 3600.0


def durable_client(spool: Path, memory: MemoryTransport, **settings: object) -> Client:
    return fast_client(DESTINATION, memory, spool_dir=str(spool), durable=True, **settings)


def messages_on_disk(spool: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(spool.glob("*-*/[!.]*.*"), key=lambda path: path.stem):  # with a dot it is not born yet
        with suppress(FileNotFoundError):
            lines = unseal(decode(path.read_bytes()))
            found += [msgspec.json.decode(line)["message"] for line in lines]
    return found


def test_an_event_is_on_disk_when_log_returns(tmp_path: Path) -> None:
    memory = MemoryTransport(*[OSError()] * 100_000)
    client = durable_client(tmp_path, memory)
    for n in range(50):
        client.log("a", "info", str(n))
        wait_until(lambda: str(n) in messages_on_disk(tmp_path))  # noqa: B023 - called at once; a file may be renamed
    client.close(0)
    assert messages_on_disk(tmp_path) == [str(n) for n in range(50)]
    assert client.stats().spooled == 50
    assert client.stats().dropped == {}


def test_delivered_events_leave_nothing_on_disk(tmp_path: Path, memory: MemoryTransport) -> None:
    with durable_client(tmp_path, memory) as client:
        for n in range(20_000):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
        figures = client.stats()
        assert (figures.delivered, figures.spooled, figures.in_memory, figures.not_durable) == (20_000, 0, 0, 0)
    assert [int(event.message) for event in memory.events] == list(range(20_000))
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_cut_and_the_rest_is_delivered_under_the_key_of_the_file(
    tmp_path: Path, memory: MemoryTransport
) -> None:
    client = durable_client(tmp_path, MemoryTransport(*[OSError()] * 100_000), interval_s=NEVER_S)
    client.log("a", "info", "first")
    assert not client.flush(timeout_s=0.1)
    client.log("a", "info", "second")
    client.log("a", "info", "third")
    (open_file,) = tmp_path.glob("*-*/*.part")
    torn = open_file.read_bytes()[:-5]
    client.close(0)
    (closed_file,) = [path for path in tmp_path.glob("*-*/*.batch") if path.stem == open_file.stem]
    closed_file.write_bytes(torn)
    with durable_client(tmp_path, memory) as adopter:
        adopter.log("a", "info", "fourth")
        wait_until(lambda: adopter.stats().delivered == 3)
        assert adopter.stats().adopted == 2
    assert sorted(event.message for event in memory.events) == ["first", "fourth", "second"]
    assert open_file.stem in {str(batch.key) for batch in memory.attempts}


def test_a_batch_that_was_committed_but_not_answered_for_is_stored_once(sink: Sink, tmp_path: Path) -> None:
    sink.answers.append("store and hang up")
    sink.always = (503, {}, b"")
    script = """
        import os, brain_events
        brain_events.init()
        for n in range(100):
            brain_events.log_system_event("a", "info", str(n))
        {end}
    """
    environ = {"BRAIN_EVENTS_SPOOL_DIR": str(tmp_path), "BRAIN_EVENTS_DURABLE": "1"}
    run_script(script.format(end="brain_events.flush(0.3); os._exit(9)"), sink.url, **environ)
    assert sink.requests
    sink.always = None
    done = run_script(
        """
        import brain_events, time
        brain_events.init()
        brain_events.log_system_event("b", "info", "")
        while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
        """,
        sink.url,
        **environ,
    )
    assert done.stderr == ""
    assert sorted(int(event.message) for event in sink.events if event.event_type == "a") == list(range(100))


@pytest.mark.parametrize("fsync", ["0", "1"])
def test_a_killed_process_loses_nothing_that_was_logged(sink: Sink, tmp_path: Path, fsync: str) -> None:
    environ = {"BRAIN_EVENTS_SPOOL_DIR": str(tmp_path), "BRAIN_EVENTS_DURABLE": "1", "BRAIN_EVENTS_FSYNC": fsync}
    done = run_script(
        """
        import os, signal, threading, brain_events
        brain_events.init(interval_s=0.01)
        def log_many(thread):
            for n in range(300):
                brain_events.log_system_event("a", "info", f"{thread}-{n}")
        threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        sink.url,
        **environ,
    )
    assert done.returncode == -signal.SIGKILL
    run_script(
        """
        import brain_events, time
        brain_events.init()
        brain_events.log_system_event("b", "info", "")
        while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
        """,
        sink.url,
        **environ,
    )
    messages = [event.message for event in sink.events if event.event_type == "a"]
    assert sorted(messages) == sorted(f"{thread}-{n}" for thread in range(4) for n in range(300))


@pytest.mark.parametrize("moment", ["open", "write", "rename"])
def test_a_journal_that_is_killed_before_its_first_event_counts_as_nothing(
    tmp_path: Path, memory: MemoryTransport, moment: str
) -> None:
    """An empty journal under its final name is one that a power loss has emptied: its events are lost."""
    done = run_script(
        f"""
        import os, brain_events
        from pathlib import Path
        brain_events.init("{DESTINATION}", durable=True)
        spool, call = Path(os.environ["BRAIN_EVENTS_SPOOL_DIR"]), os.{moment}
        def die(*args, **more):
            done = call(*args, **more) if {moment!r} == "open" else None
            if any(path.name != "lock" for path in spool.glob("*-*/*")):
                os.kill(os.getpid(), 9)
            return done or call(*args, **more)
        os.{moment} = die
        brain_events.log_system_event("a", "info", "its call does not return")
        """,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path),
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (found,) = [path for path in tmp_path.glob("*-*/*") if path.name != "lock"]
    assert (found.stat().st_size > 0) is (moment == "rename")
    with durable_client(tmp_path, memory) as client:
        client.log("b", "info", "")
        wait_until(lambda: not found.exists() and client.flush())
        assert (client.stats().adopted, client.stats().dropped, client.stats().delivered) == (0, {}, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_journal_is_counted_as_what_a_power_loss_has_emptied(tmp_path: Path, memory: MemoryTransport) -> None:
    client = durable_client(tmp_path, MemoryTransport(*[OSError()] * 100_000), interval_s=NEVER_S)
    client.log("a", "info", "")
    client.close(0)
    (path,) = tmp_path.glob("*-*/*.batch")
    path.rename(path.with_suffix(".part")).write_bytes(b"")
    with durable_client(tmp_path, memory) as adopter:
        adopter.log("b", "info", "")
        wait_until(lambda: adopter.stats().dropped == {"damaged": 1})


def test_without_a_journal_a_killed_process_loses_what_is_in_memory(sink: Sink, tmp_path: Path) -> None:
    done = run_script(
        """
        import os, signal, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("a", "info", "starts the worker")
        brain_events.flush()
        brain_events.log_system_event("a", "info", "waits for its batch")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path),
        BRAIN_EVENTS_JOURNAL_DIR="none",
    )
    assert done.returncode == -signal.SIGKILL
    assert [event.message for event in sink.events] == ["starts the worker"]
    assert list(tmp_path.iterdir()) == []


def test_a_signal_handler_may_log_in_the_middle_of_a_write(tmp_path: Path, memory: MemoryTransport) -> None:
    handled = 0
    with durable_client(tmp_path, memory) as client:

        def log_too(_signal: int, _frame: FrameType | None) -> None:
            nonlocal handled
            handled += 1
            client.log("signal", "info", "", {"n": handled})

        client.log("loop", "info", "", {"n": 0})  # the first call is slow: handlers would pile up
        logged = 1
        before = signal.signal(signal.SIGALRM, log_too)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            while handled < 1000:
                client.log("loop", "info", "", {"n": logged})
                logged += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert client.flush(PATIENCE_S)
        figures = client.stats()
        assert figures.delivered == figures.logged == logged + handled == len(memory.events)
        assert figures.not_durable == 0


def test_a_part_that_is_taken_just_before_a_call_announces_itself_is_not_written_to(
    tmp_path: Path, memory: MemoryTransport
) -> None:
    with durable_client(tmp_path, memory, interval_s=NEVER_S) as client:
        journal = client._worker._journal
        assert isinstance(journal, Journal)
        client.log("a", "info", "before")
        part = journal._open
        assert part is not None

        class TakenBefore(list[None]):
            def append(self, item: None) -> None:
                with client._worker.delivery.lock:
                    client._worker.delivery.queue._seal_next()
                super().append(item)

        part.writers = TakenBefore()
        client.log("a", "info", "after")
        assert journal._open is not part
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().not_durable) == (2, 0)


def test_many_threads_lose_and_double_nothing_while_parts_change(tmp_path: Path, memory: MemoryTransport) -> None:
    with durable_client(tmp_path, memory, interval_s=0.001) as client:

        def log_many(thread: int) -> None:
            for n in range(3000):
                client.log("thread", "info", "x" * 200, {"thread": thread, "n": n})

        threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 24_000
        assert client.stats().not_durable == 0
    found = [(event.details or {})["thread"] * 3000 + (event.details or {})["n"] for event in memory.events]
    assert sorted(found) == list(range(24_000))


def test_full_parts_do_not_pile_up_as_open_descriptors(tmp_path: Path) -> None:
    memory = MemoryTransport()
    hung, release = threading.Event(), threading.Event()

    class Hanging(MemoryTransport):
        def send(self, batch: object, timeout_s: float) -> Response:
            hung.set()
            release.wait(PATIENCE_S)
            return memory.send(batch, timeout_s)  # type: ignore[arg-type]

    with durable_client(tmp_path, Hanging()) as client:
        client.log("a", "info", "")
        assert hung.wait(PATIENCE_S)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20_000):
            client.log("a", "info", "x" * 700)
        assert len(list(tmp_path.glob("*-*/*.part"))) > 10
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3
        assert client.stats().in_memory == 0
        release.set()
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 20_001


def test_a_full_disk_costs_durability_and_not_events() -> None:
    """RLIMIT_FSIZE makes a real write fail in the middle of a line, in the middle of a file."""
    done = run_script("""
        import logging, resource, sys, time
        from brain_events import Client, Config
        from brain_events.testing import MemoryTransport
        memory = MemoryTransport()
        client = Client(Config(url="http://x", durable=True, interval_s=0.01), memory)
        client.log("a", "info", "0")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        for n in range(1, 5000):
            client.log("a", "info", str(n))
        print(client.flush(120), client.stats().not_durable > 1000, client.stats().delivered, client.close())
        messages = [int(event.message) for event in memory.events]
        print(sorted(messages) == list(range(5000)))
    """)
    assert done.stdout == "True True 5000 True\nTrue\n", done.stderr
    assert done.stderr.count("outbox cannot be used") == 1


def test_where_nothing_can_be_written_events_go_to_memory_and_are_counted() -> None:
    memory = MemoryTransport()
    with durable_client(Path("/proc/brain-events"), memory) as client:
        for n in range(10):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
        assert (client.stats().not_durable, client.stats().delivered) == (10, 10)


def test_a_directory_that_somebody_removes_costs_nothing_while_the_process_lives(
    tmp_path: Path, memory: MemoryTransport
) -> None:
    spool = tmp_path / "spool"
    with durable_client(spool, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "starts the worker")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "its file is removed")
        spool.rename(tmp_path / "elsewhere")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "continues")
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 3


def test_a_forked_child_writes_its_own_files(sink: Sink, tmp_path: Path) -> None:
    done = run_script(
        """
        import os, brain_events
        brain_events.init(interval_s=3600)
        brain_events.log_system_event("a", "info", "parent 1")
        if not (pid := os.fork()):
            brain_events.log_system_event("a", "info", "child")
            os._exit(0)
        os.waitpid(pid, 0)
        brain_events.log_system_event("a", "info", "parent 2")
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path),
        BRAIN_EVENTS_DURABLE="1",
    )
    assert done.stderr == ""
    run_script(
        """
        import brain_events, time
        brain_events.init()
        brain_events.log_system_event("b", "info", "")
        while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path),
    )
    messages = [event.message for event in sink.events if event.event_type == "a"]
    assert sorted(messages) == ["child", "parent 1", "parent 2"]


def test_memory_stays_flat_in_an_outage(tmp_path: Path) -> None:
    client = durable_client(tmp_path, MemoryTransport(*[OSError()] * 1_000_000))
    for _ in range(50_000):
        client.log("a", "info", "x" * 300)
    assert client.stats().in_memory == 0
    assert client._worker.buffer.in_memory() == 0
    time.sleep(0.05)
    client.close(0)
    assert client.stats().spooled == 50_000

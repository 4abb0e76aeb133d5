"""The journal of the default mode: what `log` has returned for outlives the process, and is delivered once."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from brain_events import Client
from brain_events._delivery.transport import Response
from brain_events._queue import memory_journal
from brain_events._queue.batch import Batch
from brain_events._queue.batch_file import VERSION, encode_journal, events_of
from brain_events._queue.memory_journal import PART_BYTES, MemoryJournal
from brain_events._queue.outbox import MAX_AGE_S
from brain_events.testing import MemoryTransport
from brain_events.wire import new_key
from tests.support.sdk import NEXT, fast_client, run_script
from tests.support.sink import Sink, problem
from tests.support.waiting import PATIENCE_S, wait_until

DESTINATION = "http://collector.invalid"
NEVER_S = 3600.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def journal_of(client: Client) -> MemoryJournal:
    journal = client._worker._journal
    assert isinstance(journal, MemoryJournal)
    return journal


def open_client(spool: Path, memory: MemoryTransport, **settings: object) -> Client:
    return fast_client(DESTINATION, memory, spool_dir=str(spool), **settings)


def home_of(client: Client) -> Path:
    path = journal_of(client)._home.path
    assert path is not None
    return Path(path)


def parts(home: Path) -> list[Path]:
    return sorted(home.glob("[!.]*.part"))


def messages_in(home: Path) -> list[str]:
    lines = [line for path in parts(home) for line in events_of(path.read_bytes())]
    return [msgspec.json.decode(line)["message"] for line in lines]


def left_behind(client: Client) -> Path:
    """End a client as `kill -9` ends its process: nothing is written any more, and its lock is released."""
    home = home_of(client)
    client._worker.put = client._put_line = lambda *_: None
    client._worker._stopping = True
    client._worker._wake_thread()
    wait_until(lambda: client._worker._thread is None or not client._worker._thread.is_alive())
    client._worker.release()
    client._closed = True
    return home


@pytest.fixture
def away() -> MemoryTransport:
    return MemoryTransport(*[OSError()] * 100_000)


def test_an_event_is_in_the_journal_when_log_returns(tmp_path: Path, memory: MemoryTransport) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "starts the worker")
        assert client.flush(PATIENCE_S)
        for n in range(50):
            client.log("a", "info", str(n))
            assert messages_in(home_of(client)) == [str(n) for n in range(n + 1)]
        home = home_of(client)
        assert client.stats().in_memory == 50
    assert not home.exists()
    assert client.stats().delivered == 51


@pytest.mark.parametrize("interval_s", ["0.01", "3600"])
def test_a_killed_process_loses_and_doubles_nothing(sink: Sink, interval_s: str) -> None:
    done = run_script(
        f"""
        import os, signal, threading, brain_events
        brain_events.init(interval_s={interval_s})
        def log_many(thread):
            for n in range(3000):
                brain_events.log_system_event("a", "info", f"{{thread}}-{{n}}")
        threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        sink.url,
    )
    assert done.returncode == -signal.SIGKILL
    assert run_script(NEXT, sink.url).stderr == ""
    messages = [event.message for event in sink.events if event.event_type == "a"]
    assert sorted(messages) == sorted(f"{thread}-{n}" for thread in range(4) for n in range(3000))


def test_a_batch_that_was_committed_but_not_answered_for_is_stored_once(sink: Sink) -> None:
    sink.answers.append("store and hang up")
    sink.always = (503, {}, b"")
    script = """
        import os, brain_events
        brain_events.init()
        for n in range(100):
            brain_events.log_system_event("a", "info", str(n))
        brain_events.flush(0.3)
        os._exit(9)
    """
    run_script(script, sink.url)
    assert sink.requests
    sink.always = None
    assert run_script(NEXT, sink.url).stderr == ""
    assert sorted(int(event.message) for event in sink.events if event.event_type == "a") == list(range(100))


def test_a_line_that_a_killed_process_has_not_completed_is_skipped(tmp_path: Path, memory: MemoryTransport) -> None:
    client = open_client(tmp_path, memory, interval_s=NEVER_S)
    client.log("a", "info", "starts the worker")
    assert client.flush(PATIENCE_S)
    client.log("a", "info", "whole")
    client.log("a", "info", "torn")
    (part,) = parts(left_behind(client))
    data = part.read_bytes()
    end = len(data.rstrip(b"\0"))
    part.write_bytes(data[: end - 5] + b"\0" * (len(data) - end + 5))
    with open_client(tmp_path, memory) as adopter:
        adopter.log("b", "info", "")
        assert adopter.flush(PATIENCE_S)
        assert (adopter.stats().adopted, adopter.stats().delivered) == (1, 2)
    assert [event.message for event in memory.events] == ["starts the worker", "whole", ""]
    assert part.stem in {str(batch.key) for batch in memory.attempts}


def test_a_signal_handler_may_log_in_the_middle_of_a_write(tmp_path: Path, memory: MemoryTransport) -> None:
    handled = 0
    with open_client(tmp_path, memory) as client:

        def log_too(_signal: int, _frame: FrameType | None) -> None:
            nonlocal handled
            handled += 1
            client.log("signal", "info", "x" * 300, {"n": handled})

        client.log("loop", "info", "", {"n": 0})
        logged = 1
        before = signal.signal(signal.SIGALRM, log_too)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            while handled < 1000:
                client.log("loop", "info", "x" * 300, {"n": logged})
                logged += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert client.flush(PATIENCE_S)
        figures = client.stats()
        assert figures.delivered == figures.logged == logged + handled == len(memory.events)


def test_many_threads_at_the_end_of_a_part_tear_lose_and_double_nothing(
    tmp_path: Path, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_journal, "PART_BYTES", 65_536)  # a part takes about 200 lines
    with open_client(tmp_path, memory, interval_s=0.001, journal_max_bytes=10**9) as client:

        def log_many(thread: int) -> None:
            for n in range(3000):
                client.log("thread", "info", "x" * 200, {"thread": thread, "n": n})

        threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(PATIENCE_S)
        figures = client.stats()
        assert (figures.delivered, figures.memory_only, figures.in_memory) == (24_000, 0, 0)
        home = home_of(client)
    assert not home.exists()  # no part of a thread that was too late is left
    for thread_ in range(8):
        found = [event.details["n"] for event in memory.events if event.details and event.details["thread"] == thread_]
        assert found == list(range(3000))


def test_a_part_that_is_completed_in_the_middle_of_a_call_is_not_written_to(
    tmp_path: Path, memory: MemoryTransport
) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "before")
        journal = journal_of(client)
        write = journal._write
        with client._worker.delivery.lock:
            client._worker.delivery.queue._seal_next()
        journal._write = write  # as a call has it that was about to write
        client.log("a", "info", "after")
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().memory_only) == (2, 0)


FORKS = """
    import os, sys, threading, time
    def log_in_child():  # registered before the hook of the package, which releases what belongs to the parent
        if "brain_events" in sys.modules:
            for _ in range(20):
                sys.modules["brain_events"].log_system_event("a", "info", "of nobody", {"more": "y" * 900})
    os.register_at_fork(after_in_child=log_in_child)
    import brain_events
    brain_events.init(interval_s=3600)
    brain_events.log_system_event("a", "info", "0")
    numbers, done = iter(range(1, 10_000_000)), threading.Event()
    logged = ["0"]
    def log_on():
        while not done.is_set():
            logged.append(str(next(numbers)))
            brain_events.log_system_event("a", "info", logged[-1])
            if len(logged) % 50 == 0: time.sleep(0.001)  # more than the journal may hold would stay in memory
    thread = threading.Thread(target=log_on)
    thread.start()
    for n in range(30):
        if not (pid := os.fork()):
            brain_events.log_system_event("child", "info", str(n))
            os._exit(not brain_events.flush(60))
        assert os.waitpid(pid, 0)[1] == 0
    done.set()
    thread.join()
    assert brain_events.stats().memory_only == 0
    print(*logged)
    sys.stdout.flush()
    END
"""


@pytest.mark.parametrize("end", ["os._exit(0)", ""])
def test_forked_children_write_nothing_into_the_journal_of_their_parent(sink: Sink, end: str) -> None:
    done = run_script(FORKS.replace("END", end), sink.url)
    assert done.stderr == ""
    assert run_script(NEXT, sink.url).stderr == ""
    assert sorted(event.message for event in sink.events if event.event_type == "child") == sorted(map(str, range(30)))
    assert sorted(event.message for event in sink.events if event.event_type == "a") == sorted(done.stdout.split())


def test_a_journal_is_not_adopted_while_its_process_lives(tmp_path: Path, memory: MemoryTransport) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S) as owner, open_client(tmp_path, memory) as other:
        owner.log("a", "info", "starts the worker")
        assert owner.flush(PATIENCE_S)
        owner.log("a", "info", "waits")
        other.log("b", "info", "")
        assert other.flush(PATIENCE_S)
        other._worker.delivery.queue._adopt_parts_at = 0.0
        other.log("b", "info", "")
        assert other.flush(PATIENCE_S)
        assert other.stats().adopted == 0
        assert messages_in(home_of(owner)) == ["waits"]
    assert sorted(event.message for event in memory.events) == ["", "", "starts the worker", "waits"]


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tmpfs"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={3 * PART_BYTES},mode=700", "none", str(place)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@needs_root
def test_a_full_tmpfs_costs_no_event(small_tmpfs: Path, tmp_path: Path, memory: MemoryTransport) -> None:
    settings = {"journal_dir": str(small_tmpfs), "interval_s": NEVER_S}
    with open_client(tmp_path / "spool", memory, **settings) as client:
        client.log("a", "info", "0")
        assert client.flush(PATIENCE_S)
        with client._worker.delivery.lock:  # the worker takes nothing meanwhile
            for n in range(1, 20_000):
                client.log("a", "info", str(n))
            assert client.stats().memory_only > 1000
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 20_000
    assert sorted(int(event.message) for event in memory.events) == list(range(20_000))


def test_beyond_its_bound_events_are_kept_in_the_process_and_in_order(tmp_path: Path, memory: MemoryTransport) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S, journal_max_bytes=3 * PART_BYTES) as client:
        client.log("a", "info", "0")
        with client._worker.delivery.lock:
            for n in range(1, 20_000):
                client.log("a", "info", str(n))
            assert len(parts(home_of(client))) <= 3
            assert client.stats().memory_only > 1000
        for n in range(20_000, 40_000):  # while the worker empties parts and memory
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "40000")
        assert messages_in(home_of(client)) == ["40000"]  # and now there is room again
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 40_001
    assert [int(event.message) for event in memory.events] == list(range(40_001))


def test_many_threads_beyond_the_bound_keep_their_order(tmp_path: Path, memory: MemoryTransport) -> None:
    with open_client(tmp_path, memory, interval_s=0.001, journal_max_bytes=3 * PART_BYTES) as client:

        def log_many(thread: int) -> None:
            for n in range(10_000):
                client.log("thread", "info", "", {"thread": thread, "n": n})

        threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().dropped) == (80_000, {})
    for thread_ in range(8):
        found = [event.details["n"] for event in memory.events if event.details and event.details["thread"] == thread_]
        assert found == list(range(10_000))


def test_an_event_larger_than_a_part_is_kept_in_the_process(tmp_path: Path, memory: MemoryTransport) -> None:
    with open_client(tmp_path, memory, max_event_bytes=10**6) as client:
        client.log("a", "info", "x" * 450_000)
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "small")
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().memory_only) == (2, 1)


@pytest.mark.parametrize("removed", ["the part", "the directory"])
def test_what_somebody_removes_costs_nothing_while_the_process_lives(
    tmp_path: Path, memory: MemoryTransport, removed: str
) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "starts the worker")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "its part is removed")
        home = home_of(client)
        for path in parts(home) if removed == "the part" else home.iterdir():
            path.unlink()
        if removed == "the directory":
            home.rmdir()
        client.log("a", "info", "written to a file without a name")
        assert client.flush(PATIENCE_S)
        client.log("a", "info", "journaled again")
        assert messages_in(home_of(client)) == ["journaled again"]
        assert client.flush(PATIENCE_S)
        assert (client.stats().delivered, client.stats().memory_only) == (4, 0)


def test_without_an_outbox_that_can_be_written_events_are_left_in_the_journal(
    away: MemoryTransport, memory: MemoryTransport
) -> None:
    spool = Path(f"/proc/brain-events-{os.getpid()}")
    client = open_client(spool, away)
    for n in range(10):
        client.log("a", "info", str(n))
    client.close(0.2)
    assert (client.stats().spooled, client.stats().in_memory, client.stats().dropped) == (10, 0, {})
    with open_client(spool, memory) as adopter:
        adopter.log("a", "info", "10")
        assert adopter.flush(PATIENCE_S)
        assert (adopter.stats().adopted, adopter.stats().delivered, adopter.stats().spooled) == (10, 11, 0)
    assert [event.message for event in memory.events] == [str(n) for n in range(11)]


def test_an_outage_moves_events_from_the_journal_to_the_outbox(tmp_path: Path, away: MemoryTransport) -> None:
    client = open_client(tmp_path, away)
    for n in range(1000):
        client.log("a", "info", str(n))
    wait_until(lambda: client.stats().spooled == 1000)
    assert messages_in(home_of(client)) == []
    assert client.stats().in_memory == 0
    home = home_of(client)
    client.close(0)
    assert not home.exists()


@pytest.mark.parametrize("outbox", ["writable", "not writable"])
def test_the_halves_of_a_batch_that_is_too_large_are_never_without_a_file(
    tmp_path: Path, memory: MemoryTransport, outbox: str
) -> None:
    """With an outbox, a process that adopts them sends the halves; the whole could be stored beside one of them."""
    files: list[int] = []
    too_large = problem(413, "body_too_large")
    spool = tmp_path if outbox == "writable" else Path(f"/proc/brain-events-{os.getpid()}")

    class Strict(MemoryTransport):
        def send(self, batch: Batch, timeout_s: float) -> Response:
            if batch.count > 2:
                return Response(too_large[0], "application/problem+json", too_large[2])
            files.append(part.exists() or len(list(spool.glob("*-*/*.batch"))))
            return memory.send(batch, timeout_s)

    with open_client(spool, Strict(), interval_s=NEVER_S) as client:
        for n in range(8):
            client.log("a", "info", str(n))
        (part,) = parts(home_of(client))
        assert client.flush(PATIENCE_S)
        assert files == ([3, 2, 2, 1] if outbox == "writable" else [True] * 4)
        assert not part.exists()
        assert client.stats().delivered == 8
    assert [event.message for event in memory.events] == [str(n) for n in range(8)]


def test_a_signal_handler_that_raises_after_a_write_doubles_nothing(tmp_path: Path, memory: MemoryTransport) -> None:
    """Such as a soft time limit; ValueError is also what a full part raises."""
    with open_client(tmp_path, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "0")
        journal = journal_of(client)
        write = journal._write

        def write_and_raise(data: bytes) -> int:
            write(data)
            raise ValueError("of a signal handler")

        journal._write = write_and_raise
        client.log("a", "info", "1")
        journal._write = write
        assert client.flush(PATIENCE_S)
    assert [event.message for event in memory.events if event.event_type == "a"] == ["0", "1"]


def test_a_line_that_was_copied_from_its_end_on_costs_no_other(tmp_path: Path, memory: MemoryTransport) -> None:
    """A copy may write its end first. What a kill leaves then is a gap of zero bytes, and the rest of a line."""
    client = open_client(tmp_path, memory, interval_s=NEVER_S)
    client.log("a", "info", "whole")
    (part,) = parts(left_behind(client))
    data = part.read_bytes()
    end = len(data.rstrip(b"\0"))
    rest = b'"severity":"info","message":"torn","timestamp":"2026-01-01T00:00:00Z"}'
    part.write_bytes((data[:end] + b"\0" * 40 + rest).ljust(len(data), b"\0"))
    with open_client(tmp_path, memory) as adopter:
        adopter.log("b", "info", "")
        assert adopter.flush(PATIENCE_S)
        assert (adopter.stats().adopted, adopter.stats().dropped) == (1, {})
    assert sorted(event.message for event in memory.events) == ["", "whole"]


def test_a_journal_without_its_lock_is_not_taken_for_that_of_a_dead_process(
    tmp_path: Path, memory: MemoryTransport
) -> None:
    with open_client(tmp_path, memory, interval_s=NEVER_S) as owner, open_client(tmp_path, memory) as other:
        owner.log("a", "info", "starts the worker")
        assert owner.flush(PATIENCE_S)
        owner.log("a", "info", "waits")
        (home_of(owner) / "lock").unlink()  # as a cleaner of old files may do
        other.log("b", "info", "")
        assert other.flush(PATIENCE_S)
        assert other.stats().adopted == 0
        home = home_of(owner)
    assert [event.message for event in memory.events].count("waits") == 1
    home.rmdir()


def test_a_batch_that_is_in_the_outbox_and_in_the_journal_is_sent_and_counted_once(
    tmp_path: Path, away: MemoryTransport, memory: MemoryTransport
) -> None:
    """A kill between the write of the one and the removal of the other."""
    client = open_client(tmp_path, away, interval_s=NEVER_S)
    client.log("a", "info", "both")
    with client._worker.delivery.lock:
        queue = client._worker.delivery.queue
        queue.outbox.discard = lambda _: None  # type: ignore[method-assign, union-attr]
        journal_of(client).settle = lambda key: None  # type: ignore[method-assign]  # noqa: ARG005
        assert queue.move_to_outbox()
    (part,) = [path for path in parts(left_behind(client)) if events_of(path.read_bytes())]
    assert [path.stem for path in tmp_path.glob("*-*/*.batch")] == [part.stem]
    adopter = open_client(tmp_path, away)
    adopter.log("b", "info", "")
    wait_until(lambda: adopter.stats().spooled == 2)
    adopter.close(0)
    with open_client(tmp_path, memory) as last:
        last.log("c", "info", "")
        wait_until(lambda: last.stats().delivered == 3)
        assert (last.stats().adopted, last.stats().dropped) == (2, {})
    assert sorted(event.event_type for event in memory.events) == ["a", "b", "c"]


@needs_root
def test_a_process_that_becomes_another_user_has_a_journal_of_that_user(sink: Sink) -> None:
    done = run_script(
        """
        import os, tempfile, brain_events
        place = tempfile.mkdtemp(dir="/dev/shm")
        os.chmod(place, 0o777)
        brain_events.init(journal_dir=place, spool_dir=place + "/spool")
        os.setuid(65534)
        brain_events.log_system_event("a", "info", "")
        print(brain_events.flush(60), brain_events.stats().memory_only, os.listdir(place))
        """,
        sink.url,
        HOME="/",
    )
    assert done.stdout == "True 0 ['brain-events-65534']\n", done.stderr


def a_part(home: Path, *, version: int = VERSION, destination: str = DESTINATION, age_s: float = 0.0) -> Path:
    """Write a part with one event, as a process that was killed leaves it."""
    key = new_key()
    header = encode_journal(key, destination, time.time() - age_s)
    header = header.replace(b'"version":%d' % VERSION, b'"version":%d' % version)
    line = b'{"event_type":"a","severity":"info","message":"left","timestamp":"2026-01-01T00:00:00Z"}'
    path = home / f"{key}.part"
    path.write_bytes((header + b"\n" + line).ljust(4096, b"\0"))
    return path


@pytest.mark.parametrize(
    ("kind", "adopted", "dropped", "newer"),
    [
        ("sound", 1, {}, 0),
        ("old", 1, {"expired": 1}, 0),
        ("of a later version", 0, {}, 1),
        ("for another collector", 1, {"damaged": 1}, 0),
        ("damaged", 1, {"damaged": 1}, 0),
        ("empty", 1, {"damaged": 1}, 0),
        ("unborn", 0, {}, 0),
    ],
)
def test_a_part_that_is_left_is_adopted_or_counted(
    tmp_path: Path, memory: MemoryTransport, kind: str, adopted: int, dropped: dict[str, int], newer: int
) -> None:
    client = open_client(tmp_path, memory, interval_s=NEVER_S)
    client.log("a", "info", "starts the worker")
    assert client.flush(PATIENCE_S)
    home = left_behind(client)
    for path in parts(home):
        path.unlink()
    part = a_part(
        home,
        version=VERSION + (kind == "of a later version"),
        destination="http://other" if kind == "for another collector" else DESTINATION,
        age_s=MAX_AGE_S + 60 if kind == "old" else 0.0,
    )
    if kind in {"damaged", "empty"}:
        part.write_bytes(b"{" * (kind == "damaged"))
    if kind == "unborn":
        part.rename(home / f".{part.name}.tmp")
    with open_client(tmp_path, memory) as adopter:
        adopter.log("b", "info", "")
        assert adopter.flush(PATIENCE_S)
        figures = adopter.stats()
        assert (figures.adopted, figures.dropped, figures.newer) == (adopted, dropped, newer)
        assert figures.logged + figures.adopted == figures.delivered + sum(figures.dropped.values())
    assert [event.message for event in memory.events if event.event_type == "a"] == [
        "starts the worker",
        *(["left"] if kind == "sound" else []),
    ]
    assert home.exists() is (kind == "of a later version")
    for path in home.glob("*"):
        path.unlink()


def test_an_event_is_as_old_as_its_part_which_is_replaced_in_time(
    tmp_path: Path, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_journal, "MAX_IDLE_S", 0.0)
    with open_client(tmp_path, memory) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        part = parts(home_of(client))[0]  # for a moment there are two
        wait_until(lambda: part not in parts(home_of(client)))
        wait_until(lambda: len(parts(home_of(client))) == 1)


def test_without_tmpfs_events_are_kept_in_the_process_and_one_line_says_so(sink: Sink, tmp_path: Path) -> None:
    done = run_script(
        """
        import logging, os, brain_events
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
        brain_events.init(journal_dir=os.environ["NO_TMPFS"])
        brain_events.log_system_event("a", "info", "")
        print(brain_events.flush(), brain_events.stats().memory_only)
        """,
        sink.url,
        NO_TMPFS="/proc",
    )
    assert done.stdout == "True 1\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("INFO there is no journal, so kill -9 loses events that are not sent yet: /proc ")


def test_none_switches_the_journal_off_without_a_word(sink: Sink) -> None:
    script = """
        import logging, brain_events
        logging.basicConfig(level=logging.INFO)
        brain_events.init()
        brain_events.log_system_event("a", "info", "")
        print(brain_events.flush(), brain_events.stats().memory_only)
    """
    for variable in ("BRAIN_EVENTS_JOURNAL_DIR", "BRAIN_EVENTS_SPOOL_DIR"):
        done = run_script(script, sink.url, **{variable: "none"})
        assert (done.stdout, done.stderr) == ("True 1\n", "")


def test_a_directory_of_another_user_is_not_used(
    tmp_path: Path, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /dev/shm every user can create the directory that another one is going to use."""
    place = tmp_path / "journals"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    monkeypatch.setattr(memory_journal, "root", lambda _: str(place))
    with open_client(tmp_path / "spool", memory) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().memory_only == 1
    assert list(place.iterdir()) == []


def test_parts_and_forks_leak_no_descriptors(tmp_path: Path, memory: MemoryTransport) -> None:
    descriptors = Path("/proc/self/fd")
    with open_client(tmp_path, memory, interval_s=NEVER_S) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        before = len(list(descriptors.iterdir()))
        for n in range(20):
            client.log("a", "info", str(n))
            assert client.flush(PATIENCE_S)
            if not (pid := os.fork()):
                os._exit(len(list(descriptors.iterdir())) >= before)
            assert os.waitpid(pid, 0)[1] == 0  # a child holds neither the lock nor a part of its parent
        assert len(list(descriptors.iterdir())) == before

"""What a disk, its owner and other processes can do to the outbox: real mounts, real permissions, real processes."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brain_events._delivery.transport import Response
from brain_events._queue import batch_file
from brain_events._queue.batch import Batch, halve, seal
from brain_events._queue.notices import Notices
from brain_events._queue.outbox import MAX_AGE_S, Outbox
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until

DESTINATION = "http://collector.invalid"
LINES = [b'{"event_type":"a","severity":"info","message":"%d"}' % n for n in range(1000)]
ENVIRON = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")])}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, or become another user")


class Switch(MemoryTransport):
    """A collector that is away until it is told to be there."""

    away = True

    def send(self, batch: Batch, timeout_s: float) -> Response:
        if self.away:
            raise ConnectionRefusedError
        return super().send(batch, timeout_s)


def left_behind(spool: Path, *batches: Batch, destination: str = DESTINATION) -> list[Path]:
    """Write the files of a process that has ended."""
    outbox = Outbox(str(spool), destination, Notices(), max_bytes=10**9)
    entries = [outbox.store(batch) for batch in batches]
    outbox.close()
    return [Path(entry.path) for entry in entries if entry]


def messages(memory: MemoryTransport) -> list[str]:
    return [event.message for event in memory.events if event.event_type == "a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@needs_root
@pytest.mark.parametrize("durable", [False, True])
def test_a_disk_that_fills_up_costs_no_event(small_disk: Path, *, durable: bool) -> None:
    """A batch that does not fit stays in memory; when the collector is back, the disk is emptied though it is full."""
    switch = Switch()
    with fast_client(DESTINATION, switch, spool_dir=str(small_disk), durable=durable) as client:
        client.log("a", "info", "0")
        wait_until(lambda: client.stats().spooled == 1)  # what follows may be one batch that is too large for the disk
        for n in range(1, 3000):
            client.log("a", "info", str(n), {"filling": os.urandom(150).hex()})
        client.flush(0.2)
        figures = client.stats()
        assert figures.spooled
        assert figures.in_memory
        assert figures.spooled + figures.in_memory == 3000
        switch.away = False
        assert client.flush(PATIENCE_S)
        wait_until(lambda: client.stats().delivered == 3000)
        assert client.stats().dropped == {}
    assert sorted(map(int, messages(switch))) == list(range(3000))
    assert list(small_disk.iterdir()) == []


@needs_root
def test_a_disk_that_becomes_read_only_is_read_and_costs_no_event(small_disk: Path) -> None:
    switch = Switch()
    with fast_client(DESTINATION, switch, spool_dir=str(small_disk)) as client:
        client.log("a", "info", "0")
        wait_until(lambda: client.stats().spooled == 1)
        subprocess.run(["mount", "--bind", small_disk, small_disk], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", small_disk], check=True)
        for n in range(1, 100):
            client.log("a", "info", str(n))
        switch.away = False
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 100
    subprocess.run(["umount", "-l", small_disk], check=True)
    with fast_client(DESTINATION, switch, spool_dir=str(small_disk)) as client:  # the file could not be deleted
        client.log("b", "info", "")
        wait_until(lambda: client.stats().adopted == client.stats().delivered - 1 == 1)
    assert sorted(map(int, messages(switch))) == list(range(100))
    assert list(small_disk.iterdir()) == []


AS_NOBODY = """
    import os, sys, tempfile, time
    from pathlib import Path
    from brain_events._queue import batch_file
    from brain_events._queue import outbox
    from tests.unit.sdk.queue.test_disk import DESTINATION, LINES, Switch, left_behind, messages
    from tests.support.sdk import fast_client
    from tests.support.waiting import wait_until
    from brain_events._queue.batch import seal
    os.setgid(65534); os.setuid(65534)
    switch = Switch()
    spool = Path(tempfile.mkdtemp(dir="/tmp")) / "spool"
"""


@needs_root
def test_a_directory_that_is_not_ours_to_write_to_leaves_events_in_memory() -> None:
    done = run_script(
        AS_NOBODY
        + """
    with fast_client(DESTINATION, switch, spool_dir="/brain-events") as client:
        client.log("a", "info", "")
        time.sleep(0.1)
        print(client.stats().in_memory)
        switch.away = False
        print(client.flush(120))
    """,
        **ENVIRON,
    )
    assert done.stdout == "1\nTrue\n", done.stderr
    assert done.stderr.count("outbox cannot be used, events stay in memory: [Errno 13]") == 1


@needs_root
def test_a_dead_directory_that_cannot_be_looked_into_does_not_stop_delivery() -> None:
    """It stopped every step: for good if it was not readable, for a second if somebody removed it at that moment."""
    done = run_script(
        AS_NOBODY
        + """
    (path,) = left_behind(spool, seal(LINES[:1]))
    path.parent.chmod(0o300)
    switch.away = False
    with fast_client(DESTINATION, switch, spool_dir=str(spool)) as client:
        client.log("b", "info", "")
        print(client.flush(120), path.exists())
    """,
        **ENVIRON,
    )
    assert done.stdout == "True True\n", done.stderr
    assert "attempt to deliver failed" not in done.stderr


@needs_root
@pytest.mark.parametrize("durable", [False, True])
def test_a_batch_that_cannot_be_read_waits_and_stops_neither_the_others_nor_durability(*, durable: bool) -> None:
    done = run_script(
        AS_NOBODY
        + f"""
    durable = {durable}
    outbox.DISK_PAUSE_S = 0.2
    reads, read = [], batch_file.read
    batch_file.read = lambda path, *size: reads.append(path) or read(path, *size)
    client = fast_client(DESTINATION, switch, spool_dir=str(spool), durable=durable, interval_s=0.02)
    client.log("a", "info", "unreadable")
    wait_until(lambda: list(spool.glob("*/*.batch")))
    (path,) = spool.glob("*/*.batch")
    path.chmod(0)
    for n in range(20):
        client.log("a", "info", str(n))
        time.sleep(0.005)
    switch.away = False
    wait_until(lambda: client.stats().delivered == 20)
    reads.clear()
    time.sleep(1)
    print(client.stats().spooled, client.stats().not_durable, client.stats().dropped, len(reads) < 20)
    path.chmod(0o600)
    print(client.flush(120), client.close(), len(messages(switch)))
    """,
        **ENVIRON,
    )
    assert done.stdout == "1 0 {} True\nTrue True 21\n", done.stderr


def test_a_slow_disk_holds_up_the_worker_and_not_who_logs(tmp_path: Path) -> None:
    done = run_script(
        """
        import os, threading, time
        from tests.support.sdk import fast_client
        from tests.support.waiting import wait_until
        from tests.unit.sdk.queue.test_disk import DESTINATION, Switch
        syncing = threading.Event()
        def slow(file):
            syncing.set()
            time.sleep(0.15)
            syncing.clear()
        os.fsync = slow
        switch = Switch()
        with fast_client(DESTINATION, switch, spool_dir=os.environ["SPOOL"], fsync=True) as client:
            client.log("a", "info", "0")
            syncing.wait()
            for n in range(1, 1000):
                client.log("a", "info", str(n))
            print(syncing.is_set())
        print(client.stats().spooled, client.stats().dropped)
        """,
        SPOOL=str(tmp_path / "spool"),
        **ENVIRON,
    )
    assert done.stdout == "True\n1000 {}\n", done.stderr


@pytest.mark.parametrize("days", [-30, 30])
@pytest.mark.parametrize("durable", [False, True])
def test_a_clock_that_jumps_costs_no_event(tmp_path: Path, days: int, *, durable: bool) -> None:
    done = run_script(
        f"""
        import os, time
        from tests.support.sdk import fast_client
        from tests.support.waiting import wait_until
        from tests.unit.sdk.queue.test_disk import DESTINATION, Switch, messages
        switch, real = Switch(), time.time
        with fast_client(DESTINATION, switch, spool_dir=os.environ["SPOOL"], durable={durable}) as client:
            client.log("a", "info", "before")
            wait_until(lambda: client.stats().spooled == 1)
            time.time = lambda: real() + {days} * 86400
            time.time_ns = lambda: int(time.time() * 1e9)
            client.log("a", "info", "after")
            wait_until(lambda: client.stats().spooled == 2)
            switch.away = False
            print(client.flush(120), client.stats().dropped, messages(switch))
        """,
        SPOOL=str(tmp_path / "spool"),
        **ENVIRON,
    )
    assert done.stdout == "True {} ['before', 'after']\n", done.stderr


def test_a_spool_directory_may_be_a_link_and_links_inside_are_left_alone(tmp_path: Path) -> None:
    real, elsewhere, link = tmp_path / "real", tmp_path / "elsewhere", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    (path,) = left_behind(link, seal(LINES[:1]))
    path.parent.rename(elsewhere)
    (real / path.parent.name).symlink_to(elsewhere)
    switch = Switch()
    with fast_client(DESTINATION, switch, spool_dir=str(link)) as client:
        client.log("a", "info", "mine")
        wait_until(lambda: client.stats().spooled == 1)
        switch.away = False
        assert client.flush(PATIENCE_S)
        assert client.stats().adopted == 0
    assert (elsewhere / path.name).exists()
    assert messages(switch) == ["mine"]


def test_a_link_to_nowhere_is_no_place_and_events_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    switch = Switch()
    with fast_client(DESTINATION, switch, spool_dir=str(tmp_path / "link")) as client:
        client.log("a", "info", "")
        assert not client.flush(0.1)
        assert client.stats().in_memory == 1
        switch.away = False
        assert client.flush(PATIENCE_S)


def test_two_adopters_race_over_a_thousand_files_and_each_is_sent_once(sink: Sink, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    for start in range(0, 1000, 100):
        left_behind(spool, *(seal([line]) for line in LINES[start : start + 100]), destination=sink.url)
    done = run_script(
        """
        import os, time, brain_events
        begin, tell = os.pipe()
        children = []
        for _ in range(2):
            if not (pid := os.fork()):
                os.close(tell)
                brain_events.init()
                os.read(begin, 1)
                brain_events.log_system_event("b", "info", "")
                while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
                stats = brain_events.stats()
                os._exit(bool(stats.dropped) or not brain_events.close(120))
            children.append(pid)
        os.close(tell)
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
        """,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(spool),
    )
    assert done.stdout == "[0, 0]\n", done.stderr
    assert "deliver failed" not in done.stderr
    if spool.exists() and list(spool.iterdir()):  # a directory that one held while the other looked
        run_script(NEXT, sink.url, BRAIN_EVENTS_SPOOL_DIR=str(spool))
    assert sorted(int(event.message) for event in sink.events if event.event_type == "a") == list(range(1000))
    assert len(sink.requests) == len(sink.stored)


ADOPTERS = """
    import os, threading, time, brain_events
    from pathlib import Path
    from brain_events._queue.adoption import Adoption

    def memory(what):  # in bytes: VmRSS is what the process has, VmHWM the most it ever had
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
        return int(line.split()[1]) * 1024

    def adopt():
        brain_events.init(interval_s=0.01)
        adopting, logged, adopt_file = threading.Event(), threading.Event(), Adoption._adopt_file
        def when_logged(*args):
            adopting.set()
            assert logged.wait(120)
            adopt_file(*args)
        Adoption._adopt_file = when_logged
        brain_events.log_system_event("b", "info", "the first")
        assert adopting.wait(120)
        for n in range(999):  # the worker is in the middle of its first file until these calls have returned
            brain_events.log_system_event("b", "info", str(n))
        before = memory("VmRSS")
        logged.set()
        while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
        stats = brain_events.stats()
        growth = memory("VmHWM") - before
        assert brain_events.close(120) and not stats.dropped
        os.write(1, b"%d %d\\n" % (stats.adopted, growth))

    begin, tell = os.pipe()
    children = []
    for _ in range(int(os.environ["ADOPTERS"])):
        if not (pid := os.fork()):
            os.close(tell)
            os.read(begin, 1)
            adopt()
            os._exit(0)
        children.append(pid)
    os.close(tell)
    assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children} == {0}
"""


@pytest.mark.heavy
def test_ten_thousand_files_are_adopted_in_bounded_memory_and_nobody_who_logs_waits(sink: Sink, tmp_path: Path) -> None:
    spool, weight, adopters = tmp_path / "spool", 0, 2
    for start in range(0, 10_000, 1000):
        lines = (
            b'{"event_type":"a","severity":"info","message":"%d","details":{"a":"%s"}}'
            % (n, os.urandom(6000).hex().encode())
            for n in range(start, start + 1000)
        )
        weight += sum(
            path.stat().st_size for path in left_behind(spool, *(seal([line]) for line in lines), destination=sink.url)
        )
    done = run_script(ADOPTERS, sink.url, BRAIN_EVENTS_SPOOL_DIR=str(spool), ADOPTERS=str(adopters))
    assert done.returncode == 0, done.stderr
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert "deliver failed" not in done.stderr
    if spool.exists() and list(spool.iterdir()):  # a directory that one held while the other looked
        run_script(NEXT, sink.url, BRAIN_EVENTS_SPOOL_DIR=str(spool))
    assert sorted(int(event.message) for event in sink.events if event.event_type == "a") == list(range(10_000))
    assert len(sink.requests) == len(sink.stored)
    assert len(told) == adopters
    assert max(growth for _, growth in told) < weight // 4, told


NEXT = """
    import brain_events, time
    brain_events.init()
    brain_events.log_system_event("b", "info", "")
    while not brain_events.flush() or brain_events.stats().spooled: time.sleep(0.01)
"""


@pytest.mark.parametrize("durable", ["0", "1"])
def test_fifty_children_share_a_spool_directory(sink: Sink, tmp_path: Path, durable: str) -> None:
    sink.always = (503, {}, b"")
    environ = {"BRAIN_EVENTS_SPOOL_DIR": str(tmp_path / "spool")}
    done = run_script(
        """
        import os, brain_events
        brain_events.init(interval_s=0.01)
        children = []
        for child in range(50):
            if not (pid := os.fork()):
                for n in range(20):
                    brain_events.log_system_event("a", "info", f"{child}-{n}")
                if not brain_events._process.default._current._config.durable:
                    brain_events.close()
                os._exit(0)
            children.append(pid)
        print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children})
        """,
        sink.url,
        BRAIN_EVENTS_DURABLE=durable,
        **environ,
    )
    assert done.stdout == "{0}\n", done.stderr
    sink.always = None
    run_script(NEXT, sink.url, **environ)
    expected = [f"{child}-{n}" for child in range(50) for n in range(20)]
    assert sorted(event.message for event in sink.events if event.event_type == "a") == sorted(expected)


def test_halves_whose_whole_is_there_still_were_not_sent_and_go(tmp_path: Path) -> None:
    """A process died in the middle of halving: each event is there twice, and is neither sent nor counted twice."""
    whole = seal(LINES[:100])
    first, second = halve(whole)
    left_behind(tmp_path, whole, first, second, *halve(seal(LINES[100:102])))
    memory = MemoryTransport()
    with fast_client(DESTINATION, memory, spool_dir=str(tmp_path)) as client:
        client.log("b", "info", "")
        wait_until(lambda: client.stats().delivered == 103)
        assert (client.stats().adopted, client.stats().dropped) == (102, {})
    assert sorted(map(int, messages(memory))) == list(range(102))
    assert list(tmp_path.iterdir()) == []


def test_two_names_of_one_batch_are_one_batch(tmp_path: Path) -> None:
    """A power loss may keep the name of before a move between directories, and that of after it."""
    (path,), (other,) = (left_behind(tmp_path, seal([line])) for line in LINES[:2])
    (other.parent / path.name).hardlink_to(path)
    memory = MemoryTransport()
    with fast_client(DESTINATION, memory, spool_dir=str(tmp_path)) as client:
        client.log("b", "info", "")
        wait_until(lambda: client.stats().delivered == 3)
        assert (client.stats().adopted, client.stats().dropped) == (2, {})
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_to_write_that_left_its_file_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / ".name.batch.tmp").write_bytes(b"from before the disk became read-only, and longer")
    batch_file.write(str(tmp_path / "name.batch"), b"whole", fsync=False)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("name.batch", b"whole")]


def test_what_nobody_sends_any_more_is_removed_after_five_days_and_counted(tmp_path: Path) -> None:
    old = left_behind(tmp_path, seal(LINES[:7]), seal(LINES[:3]), destination="http://gone.invalid")
    (young,) = left_behind(tmp_path, seal(LINES[:2]), destination="http://rare.invalid")
    (mixed,) = left_behind(tmp_path, seal(LINES[:2]), destination="http://rare.invalid")
    torn = old[0].with_name("junk")
    torn.write_bytes(b"junk")
    unborn = tmp_path / f".{old[0].parent.name}"
    unborn.mkdir()
    long_ago = time.time() - MAX_AGE_S - 10
    for path in (*old, torn, old[0].parent, unborn, mixed.parent):
        os.utime(path, (long_ago, long_ago))
    memory = MemoryTransport()
    with fast_client(DESTINATION, memory, spool_dir=str(tmp_path)) as client:
        client.log("b", "info", "")
        wait_until(lambda: client.stats().dropped == {"expired": 11})
        assert client.flush(PATIENCE_S)
        assert (client.stats().adopted, client.stats().delivered) == (11, 1)
    assert sorted(tmp_path.iterdir()) == sorted([young.parent, mixed.parent])
    assert mixed.exists()

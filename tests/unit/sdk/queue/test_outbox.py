"""The outbox: what is written when, who sends it, and what a disk or a stranger can do to it."""

import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_events import Client
from brain_events._delivery.transport import Response
from brain_events._queue.adoption import ADOPTED_AT_ONCE
from brain_events._queue.batch import seal, unseal
from brain_events._queue.batch_file import VERSION, DamagedError, decode, encode_sealed
from brain_events._queue.buffer import Buffer
from brain_events._queue.notices import Notices
from brain_events._queue.outbox import KEPT_REJECTED, MAX_AGE_S, Outbox
from brain_events._queue.queue import Queue
from brain_events.testing import MemoryTransport
from tests.support.effort import times
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink, problem
from tests.support.waiting import PATIENCE_S, wait_until

DESTINATION = "http://collector.invalid"
LINES = [b'{"event_type":"a","severity":"info","message":"%d"}' % n for n in range(100)]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def outbox(spool: Path) -> Iterator[Outbox]:
    found = open_outbox(spool)
    yield found
    found.close()


def open_outbox(spool: Path, destination: str = DESTINATION, max_bytes: int = 10**6, max_files: int = 100) -> Outbox:
    return Outbox(str(spool), destination, Notices(), max_bytes=max_bytes, max_files=max_files)


def files(spool: Path, pattern: str = "*-*/*.batch") -> list[Path]:
    while True:
        try:
            return sorted(spool.glob(pattern))
        except FileNotFoundError:  # a directory got its name while it was looked through
            continue


def left_behind(spool: Path, *batches: list[bytes], destination: str = DESTINATION) -> list[Path]:
    """Write the files of a process that has ended."""
    outbox = open_outbox(spool, destination)
    paths = []
    for lines in batches:
        entry = outbox.store(seal(lines))
        assert entry is not None
        paths.append(Path(entry.path))
    outbox.close()
    return paths


def down(seconds: float = 1e9) -> MemoryTransport:
    return MemoryTransport(*[OSError("connection refused")] * int(min(seconds * 1000, 100_000)))


# When a file is made, and how.


def test_nothing_is_written_while_the_collector_answers(spool: Path, memory: MemoryTransport) -> None:
    with fast_client(transport=memory, spool_dir=str(spool)) as client:
        for n in range(100):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
    assert not spool.exists()


def test_a_batch_is_written_after_a_few_failures_and_deleted_when_it_is_delivered(spool: Path) -> None:
    memory = down()
    with fast_client(transport=memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "kept")
        wait_until(lambda: client.stats().spooled == 1)
        assert client.stats().in_memory == 0
        assert len(files(spool)) == 1
        memory.answers.clear()
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 1
        assert files(spool) == []
    assert [event.message for event in memory.events] == ["kept"]
    assert not list(spool.iterdir())


def test_files_are_for_this_user_only_and_hold_the_body_as_it_travels(spool: Path) -> None:
    memory = down()
    client = fast_client(DESTINATION, memory, spool_dir=str(spool), api_key="s3cret")
    client.log("a", "info", "kept")
    wait_until(lambda: client.stats().spooled == 1)
    (path,) = files(spool)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(parent.stat().st_mode) for parent in (path.parent, spool)} == {0o700}
    head, _, body = path.read_bytes().partition(b"\n")
    sent = memory.attempts[-1]
    assert body == sent.body
    header = msgspec.json.decode(head)
    assert header["key"] == str(sent.key) == path.stem
    assert (header["version"], header["destination"], header["seal"]["count"]) == (VERSION, DESTINATION, 1)
    assert b"s3cret" not in path.read_bytes()
    client.close(0)


def test_a_batch_is_the_same_from_disk(outbox: Outbox) -> None:
    batch = seal(LINES)
    entry = outbox.store(batch)
    assert entry is not None
    assert outbox.load(entry) == batch


def test_memory_that_is_half_full_is_moved_to_disk_before_anything_is_dropped(spool: Path) -> None:
    with fast_client(transport=down(), spool_dir=str(spool), max_event_bytes=1024, max_buffer_bytes=20_000) as client:
        for n in range(1000):
            client.log("a", "info", str(n))
            wait_until(lambda: client.stats().in_memory < 100)
        assert client.stats().dropped == {}
        assert client.stats().spooled + client.stats().in_memory == 1000


def test_a_full_outbox_leaves_events_in_memory_and_then_they_are_dropped_and_counted(spool: Path) -> None:
    memory = down()
    client = fast_client(
        transport=memory, spool_dir=str(spool), spool_max_bytes=2000, max_event_bytes=1024, max_buffer_bytes=10_000
    )
    for n in range(500):
        client.log("a", "info", "x" * 100, {"n": n})
        if n % 50 == 0:
            wait_until(lambda: client.stats().spooled)
    figures = client.stats()
    assert figures.in_memory
    assert figures.dropped["buffer_full"] == 500 - figures.spooled - figures.in_memory
    assert sum(path.stat().st_size for path in files(spool)) < 2000 + 10_000
    memory.answers.clear()
    assert client.flush(PATIENCE_S)
    assert client.close(PATIENCE_S)
    stored = [event for event in memory.events if event.event_type == "a"]
    assert len(stored) == client.stats().delivered == 500 - client.stats().dropped["buffer_full"]


def test_an_outage_makes_ever_fewer_files(spool: Path) -> None:
    client = fast_client(transport=down(), spool_dir=str(spool), interval_s=0.001)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        client.log("a", "info", "")
        time.sleep(0.0005)
    assert 1 < len(files(spool)) < 60  # 1 s at `files / 500` s each: about 32
    client.close(0)


# Sending a backlog.


def test_what_is_logged_in_an_outage_is_delivered_once_and_in_order(spool: Path) -> None:
    memory = down()
    with fast_client(transport=memory, spool_dir=str(spool)) as client:
        for n in range(300):
            client.log("a", "info", str(n))
            time.sleep(0.0005)
        wait_until(lambda: client.stats().spooled > 200)
        memory.answers.clear()
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 300
    assert [int(event.message) for event in memory.events] == list(range(300))


def test_new_events_do_not_wait_for_a_backlog(spool: Path, memory: MemoryTransport) -> None:
    left_behind(spool, *[[line] for line in LINES])
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("new", "info", "")
        assert client.flush(PATIENCE_S)
        assert [b'"new"' in batch.body for batch in memory.attempts].index(True) < 2
        wait_until(lambda: client.stats().delivered == 101)


def test_a_backlog_does_not_wait_for_a_pause_in_new_events(spool: Path, outbox: Outbox) -> None:
    outbox.entries.extend(entry for n in range(3) if (entry := outbox.store(seal(LINES[n : n + 1]))))
    buffer = Buffer(10**6, lambda: None)
    queue = Queue(buffer, outbox, None, interval_s=1e-9, crowded_bytes=10**6)
    order = []
    for _ in range(6):
        buffer.put(LINES[0], "info")
        queue.collect(away=False)
        found = queue.next()
        assert found is not None
        order.append("new" if found[0] is found[1] else "backlog")
        queue.settle(found[0])
    assert order == ["new", "backlog"] * 3


def test_a_batch_that_a_proxy_hates_does_not_hold_up_the_others(spool: Path, sink: Sink) -> None:
    paths = left_behind(spool, *[[line] for line in LINES[:10]], destination=sink.url)
    hated = paths[0].stem
    sink.answer_to = lambda request: (403, {}, b"<h1>forbidden</h1>") if request.key == hated else None
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 10)
        assert client.stats().spooled == 1


def test_flush_is_false_for_what_is_on_disk_and_not_at_the_collector(spool: Path) -> None:
    memory = down()
    with fast_client(transport=memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().spooled == 1)
        assert not client.flush(timeout_s=0.05)
        memory.answers.clear()
        assert client.flush(PATIENCE_S)


def test_a_batch_from_disk_that_is_too_large_is_halved_on_disk(spool: Path, sink: Sink) -> None:
    left_behind(spool, LINES, destination=sink.url)
    sink.max_events = 10
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        client.log("a", "info", "mine")
        wait_until(lambda: client.stats().delivered == 101)
    assert sorted(int(event.message) for event in sink.events if event.message != "mine") == list(range(100))


def test_what_the_collector_refuses_for_good_is_set_aside_and_the_last_ten_are_kept(spool: Path, sink: Sink) -> None:
    sink.always = problem(422, "batch_invalid")
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        for n in range(15):
            client.log("a", "info", str(n))
            assert client.flush(PATIENCE_S)
        assert client.stats().rejected == 15
        assert client.stats().spooled == 0
    kept = [unseal(decode(path.read_bytes())) for path in files(spool, "rejected/*")]
    assert len(kept) == KEPT_REJECTED
    assert [b'"message":"%d"' % n in line for n, (line,) in enumerate(kept, 5)] == [True] * KEPT_REJECTED


# Adoption.


def test_the_next_process_sends_what_a_dead_one_left(sink: Sink) -> None:
    script = """
        import brain_events
        brain_events.init()
        brain_events.log_system_event("a", "info", {message!r})
        print(brain_events.flush({timeout}), flush=True)
    """
    sink.always = (503, {}, b"")
    first = run_script(script.format(message="first", timeout=0.1), sink.url)
    assert first.stdout == "False\n"
    assert "were lost" not in first.stderr
    sink.always = None
    second = run_script(script.format(message="second", timeout=5) + "    brain_events.close()", sink.url)
    assert second.stdout == "True\n"
    assert sorted(event.message for event in sink.events) == ["first", "second"]


def test_what_is_adopted_is_counted_so_that_the_account_stays_exact(spool: Path, memory: MemoryTransport) -> None:
    left_behind(spool, LINES, LINES[:7])
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 108)
        assert (client.stats().logged, client.stats().adopted) == (1, 107)
    assert not list(spool.iterdir())


def test_a_living_process_is_left_alone(spool: Path, outbox: Outbox, memory: MemoryTransport) -> None:
    assert outbox.store(seal(LINES))
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().adopted == 0
    assert len(files(spool)) == 1


def test_another_destination_is_left_alone(spool: Path, memory: MemoryTransport) -> None:
    left_behind(spool, LINES, destination="http://elsewhere.invalid")
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().adopted == 0
    assert len(files(spool)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_is_left_alone(spool: Path, memory: MemoryTransport) -> None:
    (path,) = left_behind(spool, LINES)
    os.chown(path.parent, 12345, 12345)
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        assert client.stats().adopted == 0
    assert path.exists()


def test_processes_that_start_together_adopt_each_batch_once(sink: Sink, spool: Path) -> None:
    left_behind(spool, *[[line] for line in LINES], destination=sink.url)
    done = run_script(
        f"""
        import os, time, brain_events
        children = []
        for _ in range(6):
            if not (pid := os.fork()):
                brain_events.init(spool_dir={str(spool)!r})
                brain_events.log_system_event("child", "info", "")
                brain_events.flush()
                while brain_events.stats().spooled: time.sleep(0.01)
                os._exit(not brain_events.close(120))
            children.append(pid)
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
        """,
        sink.url,
    )
    assert done.stdout == f"{[0] * 6}\n", done.stderr
    assert len(sink.requests) == len(sink.stored)
    assert sorted(int(event.message) for event in sink.events if event.event_type == "a") == list(range(100))


def test_what_has_waited_for_five_days_is_given_up_and_counted(spool: Path, memory: MemoryTransport) -> None:
    (path,) = left_behind(spool, LINES)
    path.write_bytes(encode_sealed(seal(LINES, UUID(path.stem)), DESTINATION, time.time() - MAX_AGE_S - 1))
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().dropped == {"expired": 100})
        assert client.stats().adopted == 100
    assert not path.exists()


# Damage.


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=times(200))
def test_no_changed_byte_goes_unnoticed(position: int, value: int) -> None:
    batch = seal(LINES)
    data = bytearray(encode_sealed(batch, DESTINATION, 1.0))
    position %= len(data)
    before, data[position] = data[position], value
    try:
        found = decode(bytes(data))
    except DamagedError:
        assert value != before
    else:
        assert found.body == batch.body


@pytest.mark.parametrize("kept", [0, 1, 50, 300, -1])
def test_a_file_that_was_cut_is_damaged(kept: int) -> None:
    with pytest.raises(DamagedError):
        decode(encode_sealed(seal(LINES), DESTINATION, 1.0)[:kept])


def to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_version(path: Path, version: int) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version":%d' % VERSION, b'"version":%d' % version))


def to_no_version(path: Path) -> None:
    to_version(path, 0)


def to_another_destination(path: Path) -> None:
    path.write_bytes(encode_sealed(seal(LINES, UUID(path.stem)), "http://elsewhere.invalid", time.time()))


def to_another_key(path: Path) -> None:
    path.write_bytes(encode_sealed(seal(LINES), DESTINATION, time.time()))


def to_another_name(path: Path) -> None:
    path.rename(path.with_name("notes.txt"))


def to_zeros(path: Path) -> None:
    path.write_bytes(bytes(4096))


def to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def to_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "counted"),
    [
        (to_nothing, 1),
        (to_zeros, 1),
        (to_no_version, 1),
        (to_another_destination, 1),
        (to_another_key, 1),
        (to_another_name, 1),
        (to_link, 1),
        (to_pipe, 1),
        (to_directory, 1),
        (to_short, 100),  # its header can be read
    ],
)
def test_a_damaged_or_foreign_file_is_set_aside_and_counted_and_stops_nothing(
    damage: Callable[[Path], None], counted: int, spool: Path, memory: MemoryTransport
) -> None:
    first, _ = left_behind(spool, LINES, LINES[:7])
    damage(first)
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 8 and client.stats().spooled == 0)
        assert client.stats().dropped == {"damaged": counted}
        assert (client.stats().logged, client.stats().adopted) == (1, 7 + counted)
    assert len(files(spool, "damaged/*")) == 1


# Another version.


def test_files_of_a_later_version_stay_and_are_taken_by_one_that_knows_them(sink: Sink) -> None:
    """A downgrade, and the upgrade after it: real processes, of which some write and read the next version."""
    script = """
        import logging, time
        import brain_events
        from brain_events._queue import batch_file
        batch_file.VERSION = {version}
        brain_events.init()
        brain_events.log_system_event("a", "info", {message!r})
        brain_events.flush({timeout})
        while {timeout} > 1 and brain_events.stats().spooled: time.sleep(0.01)
        stats = brain_events.stats()
        print(stats.adopted, stats.newer, stats.dropped)
    """
    sink.always = (503, {}, b"")
    for message in ("0", "1"):
        run_script(script.format(version=VERSION + 1, message=message, timeout=0.1), sink.url)
    sink.always = None
    for message in ("2", "3"):
        older = run_script(script.format(version=VERSION, message=message, timeout=20), sink.url)
        assert older.stdout == "0 2 {}\n", older.stderr
        assert older.stderr.count("left where they are, for a later version of brain-events: version 3") == 1
    newer = run_script(script.format(version=VERSION + 1, message="4", timeout=20), sink.url)
    assert (newer.stdout, newer.stderr) == ("2 0 {}\n", "")
    assert sorted(event.message for event in sink.events) == ["0", "1", "2", "3", "4"]
    assert len(sink.stored) == 5


def test_a_later_version_may_have_another_header_and_its_file_is_not_touched(
    spool: Path, memory: MemoryTransport
) -> None:
    first, second = left_behind(spool, LINES, LINES[:7])
    before = first.read_bytes()
    later = b'{"version":3,"parts":[1,2],"key":7}\n\x00\x01'
    first.write_bytes(later)
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 8)
        figures = client.stats()
        assert (figures.newer, figures.adopted, figures.dropped, figures.spooled) == (1, 7, {}, 0)
    assert (first.read_bytes(), second.exists()) == (later, False)
    first.write_bytes(before)
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 101)
    assert list(spool.iterdir()) == []


def test_files_of_a_later_version_do_not_stand_in_the_way_of_others(
    spool: Path, memory: MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    count = ADOPTED_AT_ONCE + 10
    outbox = open_outbox(spool, max_files=count)
    for _ in range(count):
        entry = outbox.store(seal(LINES[:1]))
        assert entry is not None
        to_version(Path(entry.path), VERSION + 1)
    outbox.close()
    left_behind(spool, LINES[:7])
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 8)
        assert client.stats().newer == count
    assert caplog.text.count("for a later version of brain-events") == 1
    assert len(files(spool)) == count


def to_version_1(path: Path) -> None:
    """Make a file as 0.1.0 wrote it: its CRC covers the header, too."""
    path.write_bytes(_sealed_by_version_1(path, lambda header, body: zlib.crc32(body, zlib.crc32(header))))


def to_first_version_1(path: Path) -> None:
    """Make a file as it was before 0.1.0: its CRC covers the body only."""
    path.write_bytes(_sealed_by_version_1(path, lambda _, body: zlib.crc32(body)))


def _sealed_by_version_1(path: Path, crc32: Callable[[bytes, bytes], int]) -> bytes:
    line, _, body = path.read_bytes().partition(b"\n")
    header = msgspec.json.decode(line)
    header["version"], header["seal"]["crc32"] = 1, 0
    header["seal"]["crc32"] = crc32(msgspec.json.encode(header), body)
    return msgspec.json.encode(header) + b"\n" + body


@pytest.mark.parametrize("to_earlier", [to_version_1, to_first_version_1])
def test_files_of_an_earlier_version_are_delivered(
    to_earlier: Callable[[Path], None], spool: Path, memory: MemoryTransport
) -> None:
    first, second = left_behind(spool, LINES, LINES[:7])
    to_earlier(first)
    to_earlier(second)
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().delivered == 108)
        assert (client.stats().adopted, client.stats().dropped) == (107, {})


def test_a_file_of_this_version_is_damaged_if_its_crc_covers_the_body_only(
    spool: Path, memory: MemoryTransport
) -> None:
    (path,) = left_behind(spool, LINES)
    to_first_version_1(path)
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":%d' % VERSION))
    with fast_client(DESTINATION, memory, spool_dir=str(spool)) as client:
        client.log("a", "info", "")
        wait_until(lambda: client.stats().dropped == {"damaged": 100})


# The disk.


@pytest.mark.parametrize("place", ["/proc/brain-events", "/dev/null/brain-events"])
def test_where_nothing_can_be_written_there_is_one_warning_and_memory(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = down()
    with fast_client(transport=memory, spool_dir=place) as client:
        for n in range(50):
            client.log("a", "info", str(n))
            time.sleep(0.001)
        wait_until(lambda: "outbox cannot be used" in caplog.text)
        assert client.stats().in_memory == 50
        memory.answers.clear()
        assert client.flush(PATIENCE_S)
    assert caplog.text.count("outbox cannot be used") == 1
    assert len(memory.events) == 50


def test_a_full_disk_keeps_events_in_memory() -> None:
    """RLIMIT_FSIZE makes a real write fail in the middle."""
    done = run_script("""
        import logging, resource, time
        logging.getLogger("brain_events").setLevel("ERROR")
        from brain_events import Client, Config
        from brain_events.testing import MemoryTransport
        memory = MemoryTransport(*[OSError()] * 1_000_000)
        client = Client(Config(url="http://x", interval_s=0.01, retry_base_s=0.001, retry_cap_s=0.01), memory)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        for n in range(500):
            client.log("a", "info", str(n))
        time.sleep(0.3)
        print(client.stats().spooled, client.stats().in_memory)
        memory.answers.clear()
        print(client.flush(120), client.close(), len(memory.events))
    """)
    assert done.stdout == "0 500\nTrue True 500\n", done.stderr


def test_without_descriptors_events_stay_in_memory_and_go_to_disk_later() -> None:
    done = run_script("""
        import logging, os, time
        logging.getLogger("brain_events").setLevel("ERROR")
        from brain_events import Client, Config
        from brain_events._queue import outbox
        from brain_events.testing import MemoryTransport
        memory = MemoryTransport(*[OSError()] * 1_000_000)
        client = Client(Config(url="http://x", interval_s=0.01, retry_base_s=0.001, retry_cap_s=0.01), memory)
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True: taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        client.log("a", "info", "")
        time.sleep(0.3)
        print(client.stats().spooled, client.stats().in_memory)
        for file in taken: os.close(file)
        while not client.stats().spooled: time.sleep(0.05)
        memory.answers.clear()
        print(client.flush(120), client.close(), len(memory.events))
    """)
    assert done.stdout == "0 1\nTrue True 1\n", done.stderr


def test_a_directory_that_somebody_removes_is_made_again_and_what_was_in_it_is_counted(spool: Path) -> None:
    memory = down()
    client = fast_client(transport=memory, spool_dir=str(spool))
    client.log("a", "info", "gone")
    wait_until(lambda: client.stats().spooled == 1)
    spool.rename(spool.with_name("elsewhere"))
    client.log("a", "info", "stays")
    wait_until(lambda: files(spool))  # it, and soon the report of what was lost
    memory.answers.clear()
    wait_until(lambda: client.stats().delivered >= 1)
    assert client.stats().dropped == {"damaged": 1}
    assert client.close(PATIENCE_S)
    assert [event.message for event in memory.events if event.event_type == "a"] == ["stays"]


def test_it_is_bounded_in_files(spool: Path) -> None:
    outbox = open_outbox(spool, max_files=3)
    assert [outbox.store(seal([line])) is not None for line in LINES[:5]] == [True] * 3 + [False] * 2
    outbox.close()


# Losses are reported.


def test_drops_travel_to_the_collector_once(spool: Path) -> None:
    memory = MemoryTransport(*[Response(503)] * 20)
    with fast_client(transport=memory, max_event_bytes=1024, max_buffer_bytes=2000) as client:
        for n in range(100):
            client.log("a", "info", "x" * 100, {"n": n})
        dropped = client.stats().dropped["buffer_full"]
        wait_until(lambda: any(event.event_type == "sdk_report" for event in memory.events))
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        figures = client.stats()
        assert figures.logged == 101 == figures.delivered + dropped
    (report,) = [event for event in memory.events if event.event_type == "sdk_report"]
    assert report.details == {"dropped": {"buffer_full": dropped}}


def test_without_drops_there_is_no_report(client: Client, memory: MemoryTransport) -> None:
    for _ in range(3):
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
    assert {event.event_type for event in memory.events} == {"a"}


def test_keys_are_in_the_order_of_time() -> None:
    keys = []
    for _ in range(3):
        keys.append(seal(LINES).key)
        time.sleep(0.002)
    assert all(first < second for first, second in pairwise(keys))

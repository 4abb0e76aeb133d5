"""With `fsync`, a power loss at any moment costs nothing: shown on a disk that keeps what was synced, and no more."""

import os
import pickle
from pathlib import Path

import pytest

from tests.support.sdk import NEXT, run_script
from tests.support.sink import Sink
from tests.support.strict_disk import lay_out

PRELUDE = """
    import os, sys, time
    from collections import Counter
    from pathlib import Path
    from brain_events import Client
    from brain_events._delivery.transport import Response
    from brain_events.testing import MemoryTransport
    from tests.support.strict_disk import StrictDisk, lay_out
    from tests.support.sdk import fast_client
    from tests.support.waiting import wait_until

    URL = "http://collector.invalid"
    root = Path(os.environ["ROOT"])
    spool = root / "state" / "spool"
    promised = []       # events that a power loss must not cost
    memory = MemoryTransport()

    class Counting(MemoryTransport):
        "Refuses batches of more than two events while `small` says so; the disk looks when it has stored one."
        small = False
        def send(self, batch, timeout_s):
            if self.small and batch.count > 2:
                return Response(413)
            answer = memory.send(batch, timeout_s)
            disk.look()
            return answer

    def open_client(transport=None, **settings):
        options = {"spool_dir": str(spool), "fsync": True, "durable": True} | settings
        return fast_client(URL, transport or Counting(), **options)

    def log(client, message):
        client.log("a", "info", message)
        promised.append(message)
        disk.look()

    disk = StrictDisk(root, lambda: (list(promised), list(memory._stored.values())))

    def check():
        "Let a second process of after the power loss adopt what each state has left."
        wrong = []
        for number, state in enumerate(disk.states):
            place = root.with_name(f"{root.name}-{number}")
            lay_out(state.tree, place)
            expected, stored = state.beside
            collector = MemoryTransport()
            collector._stored.update((batch.key, batch) for batch in stored)
            with fast_client(URL, collector, spool_dir=str(place / "state" / "spool")) as heir:
                heir.log("next", "info", "")
                wait_until(lambda: heir.flush() and not heir.stats().spooled)
                dropped = heir.stats().dropped
            found = Counter(event.message for event in collector.events if event.event_type == "a")
            if set(expected) - set(found) or max(found.values(), default=1) > 1 or dropped:
                wrong.append((number, sorted(set(expected) - set(found)), found.most_common(1), dropped))
        print(len(disk.states) > 20, wrong)
"""


ENVIRON = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")])}


def survives(script: str, root: Path) -> None:
    (root / "disk").mkdir()
    done = run_script(PRELUDE + script + "\n    check()", ROOT=str(root / "disk"), **ENVIRON)
    assert done.stdout == "True []\n", done.stderr


def test_what_was_logged_in_durable_mode_outlives_a_power_loss(tmp_path: Path) -> None:
    """Through the making of directories, sealing, an outage, delivery, deletion, closing, and a second process."""
    survives(
        """
    with disk:
        with open_client() as client:
            for n in range(10):
                log(client, f"delivered {n}")
            assert client.flush(120)
            for n in range(5):
                log(client, f"more {n}")
        with open_client(MemoryTransport(*[OSError()] * 100_000), interval_s=0.001) as client:
            for n in range(10):
                log(client, f"outage {n}")
                time.sleep(0.002)
        with open_client() as client:  # adopts
            log(client, "last")
            wait_until(lambda: client.flush() and not client.stats().spooled)
    """,
        tmp_path,
    )


def test_halves_outlive_a_power_loss_and_their_whole_does_not_come_back_beside_them(tmp_path: Path) -> None:
    survives(
        """
    with disk:
        transport = Counting()
        transport.small = True
        with open_client(transport, interval_s=3600) as client:
            for n in range(20):
                log(client, str(n))
            wait_until(client.flush)
            log(client, "last")
    """,
        tmp_path,
    )


def test_what_is_adopted_outlives_a_power_loss_of_the_adopter(tmp_path: Path) -> None:
    survives(
        """
    for n in range(3):
        with open_client(MemoryTransport(*[OSError()] * 100_000)) as client:
            for m in range(3):
                client.log("a", "info", f"{n}-{m}")
            client.flush(0.05)
    disk = StrictDisk(root, lambda: (list(promised), list(memory._stored.values())))
    with disk:
        promised += [f"{n}-{m}" for n in range(3) for m in range(3)]
        class Picky(Counting):
            well = False
            def send(self, batch, timeout_s):
                if not self.well and b'"b"' not in batch.body:
                    raise OSError
                return super().send(batch, timeout_s)
        picky = Picky()
        with open_client(picky, durable=False) as adopter, open_client() as other:
            adopter.log("b", "info", "is delivered, so that nothing is written beside what is adopted")
            wait_until(lambda: adopter.stats().adopted == 9)
            for n in range(10):
                log(other, f"other {n}")  # makes a directory beside, and syncs the one above
            picky.well = True
            wait_until(lambda: adopter.flush() and not adopter.stats().spooled)
    """,
        tmp_path,
    )


def test_in_default_mode_fsync_is_for_what_is_on_disk(tmp_path: Path) -> None:
    survives(
        """
    with disk:
        failing = MemoryTransport(*[OSError()] * 100_000)
        with open_client(failing, durable=False) as client:
            for n in range(10):
                client.log("a", "info", str(n))
                wait_until(lambda: client.stats().spooled == n + 1)
                promised.append(str(n))
                disk.look()
    """,
        tmp_path,
    )


@pytest.mark.parametrize("mode", ["durable", "default"])
def test_without_fsync_nothing_is_synced(tmp_path: Path, mode: str) -> None:
    """What the kernel has not written is lost: so says the table, and so goes the time of an fsync."""
    done = run_script(
        """
        import os, sys
        from brain_events.testing import MemoryTransport
        from tests.support.sdk import fast_client
        synced = []
        os.fsync = os.fdatasync = synced.append
        failing = MemoryTransport(*[OSError()] * 100_000)
        options = {"spool_dir": os.environ["SPOOL"], "durable": os.environ["MODE"] == "durable"}
        with fast_client("http://x", failing, **options) as client:
            client.log("a", "info", "")
            client.flush(0.1)
        print(client.stats().spooled, synced)
        """,
        SPOOL=str(tmp_path / "spool"),
        MODE=mode,
        **ENVIRON,
    )
    assert done.stdout == "1 []\n", done.stderr


EXITING = """
    import atexit, os, pickle
    from pathlib import Path
    from tests.support.strict_disk import StrictDisk
    import brain_events
    root = Path(os.environ["ROOT"])
    disk = StrictDisk(root, lambda: None)
    def look():
        disk.look()
        (root.parent / "medium").write_bytes(pickle.dumps(disk.states[-1].tree))
    disk.__enter__()
    atexit.register(look)  # before init: it runs after our exit hook
    brain_events.init(interval_s=3600)
    for n in range(3):
        brain_events.log_system_event("a", "info", str(n))
"""


@pytest.mark.parametrize("end", ["", "\n    raise SystemError", "\n    raise SystemExit(3)"])
@pytest.mark.parametrize(("durable", "fsync", "kept"), [("0", "1", 3), ("1", "1", 3), ("0", "0", 0), ("1", "0", 0)])
def test_what_an_exit_leaves_outlives_a_power_loss_with_fsync_and_only_then(
    sink: Sink, tmp_path: Path, durable: str, fsync: str, kept: int, end: str
) -> None:
    """The collector is away when the process ends; then the power is lost, and the next process sends what is left."""
    (tmp_path / "disk").mkdir()
    sink.always = (503, {}, b"")
    environ = {"BRAIN_EVENTS_DURABLE": durable, "BRAIN_EVENTS_FSYNC": fsync, **ENVIRON}
    spool = str(tmp_path / "disk" / "state" / "spool")
    done = run_script(EXITING + end, sink.url, ROOT=str(tmp_path / "disk"), BRAIN_EVENTS_SPOOL_DIR=spool, **environ)
    assert "were lost" not in done.stderr
    assert len(list(Path(spool).glob("*/*.batch"))) == 1
    lay_out(pickle.loads((tmp_path / "medium").read_bytes()), tmp_path / "after")
    sink.always = None
    run_script(
        NEXT,
        sink.url,
        BRAIN_EVENTS_SPOOL_DIR=str(tmp_path / "after" / "state" / "spool"),
    )
    found = sorted(event.message for event in sink.events if event.event_type == "a")
    assert found == [str(n) for n in range(kept)]

"""The disk of the database fills up: refused and said, survived, and over by itself once there is room."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import event, ndjson
from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

SIZE = "300m"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of its own."""
    with scratch_dir() as path:
        disk = path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "tmpfs", disk], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return ballast


class Sender:
    """Sends batches, and keeps what was acknowledged; what was not is sent again under its key."""

    def __init__(self, collector: CollectorProcess) -> None:
        self.acknowledged: list[str] = []
        self.refusals: Counter[int] = Counter()
        self._url = collector.url + BATCH_PATH
        self._number = 0
        self._renew()

    def _renew(self) -> None:
        self._number += 1
        self._key = str(new_key())
        self._names = [f"{self._number}-{line}" for line in range(200)]
        self._body = ndjson(*(event(message=name, details={"bulk": os.urandom(512).hex()}) for name in self._names))

    def send(self) -> bool:
        """Send a batch once; return whether it was acknowledged."""
        headers = {KEY_HEADER: self._key, "Content-Type": NDJSON}
        answer = httpx.post(self._url, content=self._body, headers=headers, timeout=PATIENCE_S)
        if answer.status_code != 200:
            self.refusals[answer.status_code] += 1
            return False
        self.acknowledged += self._names
        self._renew()
        return True

    def sends_until(self, *, accepted: bool) -> None:
        wait_until(lambda: self.send() is accepted, f"a batch is {'accepted' if accepted else 'refused'}")


def readiness(collector: CollectorProcess) -> tuple[int, str]:
    answer = httpx.get(collector.url + "/readyz", timeout=PATIENCE_S)
    return answer.status_code, " ".join(answer.json()["reasons"])


def looks(collector: CollectorProcess) -> int:
    """Count the writes by which the collector finds out whether its database is back; failed ones count too."""
    ((n,),) = collector.sql("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs'")
    return int(n)


def postgres_state(collector: CollectorProcess) -> dict[str, object]:
    (found,) = [engine for engine in collector.get("/health")["engines"] if engine["name"] == "postgres"]
    return dict(found)


def stored_once(collector: CollectorProcess, sender: Sender) -> bool:
    rows = collector.sql("SELECT message, count(*) FROM system_events WHERE event_type = 'test' GROUP BY 1")
    return Counter(dict(rows)) == Counter(sender.acknowledged)


def test_a_full_disk_is_refused_with_503_said_by_readyz_and_over_once_there_is_room(small_disk: Path) -> None:
    with collector_process(small_disk / "data") as collector:
        sender = Sender(collector)
        assert sender.send()
        ballast = fill(small_disk)
        sender.sends_until(accepted=False)
        wait_until(lambda: "No space left on device" in readiness(collector)[1], "readyz names the disk")
        unready = set()
        looked = looks(collector)

        def looked_often() -> bool:
            unready.add(readiness(collector)[0])
            return looks(collector) > looked + 3

        wait_until(looked_often, "the collector has looked again whether its database takes writes")
        lost = httpx.get(collector.url + "/livez", timeout=PATIENCE_S).status_code, collector.running
        ballast.unlink()
        wait_until(lambda: readiness(collector)[0] == 200, "it is ready by itself")
        sender.sends_until(accepted=True)
        wait_until(lambda: collector.sql("SELECT FROM system_events WHERE event_type = 'database_back'") != [], "back")
        reasons = collector.sql("SELECT details->>'reason' FROM system_events WHERE event_type = 'database_lost'")

        assert unready == {503}, "it does not take itself for ready in between"
        assert lost == (200, True)
        assert set(sender.refusals) == {503}
        assert stored_once(collector, sender)
        assert any("No space left on device" in reason for (reason,) in reasons)
        assert len(reasons) == 1, "one loss, not one a second"


def test_a_postgres_that_ends_on_a_full_disk_waits_for_room_and_comes_back(small_disk: Path, tmp_path: Path) -> None:
    with (
        (tmp_path / "stderr").open("w+") as stderr,
        collector_process(small_disk / "data", stderr) as collector,
    ):
        sender = Sender(collector)
        assert sender.send()
        ballast = fill(small_disk)
        sender.sends_until(accepted=False)

        os.kill(int(str(postgres_state(collector)["pid"])), signal.SIGKILL)
        wait_until(lambda: postgres_state(collector)["waits_for"], "Postgres waits for room")
        state, (status, reasons) = postgres_state(collector), readiness(collector)
        refused = [sender.send() for _ in range(3)]
        for _ in range(30):  # half as many looks of the supervisor, at least
            collector.get("/health")
        assert postgres_state(collector) == state, "it does not start in vain"
        ballast.unlink()
        wait_until(lambda: readiness(collector)[0] == 200, "it is ready by itself")
        sender.sends_until(accepted=True)

        assert (status, refused) == (503, [False] * 3)
        assert "PostgreSQL needs 32 MiB; delete files from it" in reasons
        assert set(sender.refusals) == {503}
        assert stored_once(collector, sender)
        assert Path(stderr.name).read_text().count("is not restarted yet") == 1

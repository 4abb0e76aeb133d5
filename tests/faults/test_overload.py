"""Far more clients than the collector can serve, which ask again at once whatever they are told.

BRAIN_TEST_OVERLOAD_S=60 makes it last longer. What it does to the throughput, `benchmarks/ingest.py --overload` tells.
"""

import os
import re
import resource
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import event, ndjson
from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

SECONDS = float(os.environ.get("BRAIN_TEST_OVERLOAD_S", "6"))
CLIENTS = 60
EVENTS = 400
WAIT_S = 0.5
IDLE = 5_000
BOUNDS = {
    "BRAIN_COLLECTOR_MAX_PENDING_BYTES": str(2 * 2**20),
    "BRAIN_COLLECTOR_MAX_WAITING_REQUESTS": "8",
    "BRAIN_COLLECTOR_ADMISSION_WAIT_S": str(WAIT_S),
}


class Impatient:
    """Clients that post until the time is over and enough of them were refused, and sleep never."""

    def __init__(self, url: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.untold = 0
        self.most_refusals = 0
        self._url = url
        self._guard = threading.Lock()
        self._end_s = time.monotonic() + SECONDS
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _work(self) -> None:
        body = ndjson(*[event(source="overload", message="x" * 200)] * EVENTS)
        refusals = 0
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            while time.monotonic() < self._end_s or self.statuses[503] <= CLIENTS:
                headers = {KEY_HEADER: str(new_key()), "Content-Type": NDJSON}
                answer = client.post(BATCH_PATH, content=body, headers=headers)
                refusals += answer.status_code == 503
                with self._guard:
                    self.statuses[answer.status_code] += 1
                    self.untold += answer.status_code == 503 and "Retry-After" not in answer.headers
        with self._guard:
            self.most_refusals = max(self.most_refusals, refusals)


def test_an_overload_is_refused_calmly_and_what_is_acknowledged_is_stored() -> None:
    with scratch_dir() as path, collector_process(path / "data", None, **BOUNDS) as collector:
        begun_s = time.monotonic()
        impatient = Impatient(collector.url)
        wait_until(lambda: impatient.statuses[503], "some are refused")
        assert httpx.get(collector.url + "/livez", timeout=PATIENCE_S).status_code == 200
        impatient.join()
        lasted_s = time.monotonic() - begun_s

        print(f"{dict(impatient.statuses)} in {lasted_s:.0f} s, peak {peak_mebibytes(collector)} MiB")
        assert set(impatient.statuses) == {200, 503}
        assert impatient.untold == 0
        assert impatient.most_refusals <= lasted_s / WAIT_S + 1  # asking faster is no use
        ((stored,),) = collector.sql("SELECT count(*) FROM system_events WHERE source = 'overload'")
        assert stored == impatient.statuses[200] * EVENTS
        assert peak_mebibytes(collector) < 200
        answer = httpx.post(collector.url + "/api/events", json=event(), timeout=PATIENCE_S)
        assert answer.status_code == 201


def test_thousands_of_idle_connections_keep_nobody_out() -> None:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files != resource.RLIM_INFINITY and most_files < 2 * IDLE:
        pytest.skip(f"{most_files} open files are too few for {IDLE} connections on both sides")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * IDLE, most_files))
    with scratch_dir() as path, collector_process(path / "data") as collector, ExitStack() as stack:
        address = (urlsplit(collector.url).hostname, urlsplit(collector.url).port)
        client = stack.enter_context(httpx.Client(base_url=collector.url, timeout=PATIENCE_S))
        for n in range(IDLE):
            stack.enter_context(socket.create_connection(address))
            if n % 100 == 0:
                assert client.post("/api/events", json=event()).status_code == 201
        print(f"peak {peak_mebibytes(collector)} MiB")


def peak_mebibytes(collector: CollectorProcess) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{collector.pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) // 1024

"""Postgres that stops answering, all of it, with requests at work: SIGSTOP, and SIGCONT later."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from brain_events.wire import BATCH_PATH, NDJSON
from tests.faults.test_kill import check
from tests.support.collector import event, ndjson
from tests.support.engines import scratch_dir
from tests.support.load import loaded
from tests.support.process import CollectorProcess, collector_process, signal_all, stop_family
from tests.support.waiting import wait_until

DEADLINES = {
    "BRAIN_COLLECTOR_WRITE_DEADLINE_S": "2",
    "BRAIN_COLLECTOR_READ_DEADLINE_S": "2",
    "BRAIN_COLLECTOR_CONNECT_DEADLINE_S": "1",
}
CLIENTS = 40
PATIENCE_S = 30.0


def test_a_frozen_postgres_costs_each_request_its_deadline_and_nobody_an_event() -> None:
    with (
        scratch_dir() as path,
        collector_process(path / "data", None, **DEADLINES) as collector,
        loaded(collector.url) as load,
    ):
        wait_until(lambda: len(load.acknowledged) > 200, "events are acknowledged")
        wait_until(lambda: load.in_flight, "a request is in flight")
        with frozen(collector), ThreadPoolExecutor(CLIENTS) as clients:
            asked = [clients.submit(ask, collector.url, n) for n in range(CLIENTS)]
            live_ms = probe(collector.url, until=lambda: all(each.done() for each in asked))
            answers = Counter(each.result() for each in asked)
            wait_until(lambda: load.refused, "the load is refused")
            ready = httpx.get(collector.url + "/readyz", timeout=PATIENCE_S)
        print(
            f"{answers} while Postgres was frozen; {len(live_ms)} answers of /livez took {max(live_ms):.0f} ms at most"
        )
        assert set(answers) == {(503, True)}
        assert ready.status_code == 503

        before = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > before + 200, "events are acknowledged again")
        load.pause()
        assert load.ambiguous == 0
        check(collector, load)


def ask(url: str, n: int) -> tuple[int, bool]:
    """Write or read; return the status, and whether it is told when to come again. No answer in time raises."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        if n % 2:
            answer = client.get("/api/events", params={"source": f"s{n}"})
        else:
            answer = client.post(BATCH_PATH, content=ndjson(event(source="late")), headers={"Content-Type": NDJSON})
    return answer.status_code, "Retry-After" in answer.headers


def probe(url: str, until: Callable[[], bool]) -> list[float]:
    """Ask for /livez again and again; return how long each answer took."""
    took_ms: list[float] = []
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        while not took_ms or not until():
            begun_s = time.monotonic()
            assert client.get("/livez").status_code == 200
            took_ms.append((time.monotonic() - begun_s) * 1000)
            time.sleep(0.02)
    return took_ms


@contextmanager
def frozen(collector: CollectorProcess) -> Iterator[None]:
    """Stop Postgres and each of its children; continue them at the end."""
    stopped = stop_family(collector.engine_pid("postgres"))
    try:
        yield
    finally:
        signal_all(stopped, signal.SIGCONT)

"""Collectors that are stopped and started again under load, one after the other: nobody notices."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import event, ndjson, own_events, sql
from tests.support.effort import times
from tests.support.engines import SuiteEngines
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

ROUNDS = times(2)
CLIENTS = 8
TRIES = 3
"""One on the collector that goes, one on the other; the third is for a kept connection that went with the first."""


class Balancer:
    """Sends each request to the next collector, and on to another when it gets no answer or a 5xx, as a proxy does."""

    def __init__(self, urls: list[str]) -> None:
        self._clients = [httpx.Client(base_url=url, timeout=PATIENCE_S) for url in urls]
        self._turn = count()
        self.retried: Counter[str] = Counter()

    def post(self, path: str, content: bytes, content_type: str) -> httpx.Response | None:
        headers = {KEY_HEADER: str(new_key()), "Content-Type": content_type}
        for _ in range(TRIES):
            client = self._clients[next(self._turn) % len(self._clients)]
            try:
                answer = client.post(path, content=content, headers=headers)
            except httpx.TransportError as error:
                self.retried[type(error).__name__] += 1
                continue
            if answer.status_code < 500:
                return answer
            self.retried[str(answer.status_code)] += 1
        return None

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Load:
    """What several clients had acknowledged, and the requests that failed after their retries."""

    def __init__(self, urls: list[str]) -> None:
        self.acknowledged: list[str] = []
        self.failed: list[object] = []
        self.retried: Counter[str] = Counter()
        self._urls = urls
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def _run(self, client: int) -> None:
        balancer = Balancer(self._urls)
        for number in count():
            if self._stop.is_set():
                break
            if number % 2:
                names, status = [f"{client}-{number}"], 201
                answer = balancer.post("/api/events", ndjson(event(message=names[0])).strip(), "application/json")
            else:
                names, status = [f"{client}-{number}-{line}" for line in range(300)], 200
                answer = balancer.post(BATCH_PATH, ndjson(*(event(message=name) for name in names)), NDJSON)
            if answer is not None and answer.status_code == status:
                self.acknowledged += names
            else:
                self.failed.append(answer and answer.text)
        self.retried.update(balancer.retried)
        balancer.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def external(stack: ExitStack, engines: SuiteEngines, database_url: str, **environ: str) -> CollectorProcess:
    """Run a collector on the suite's engines."""
    urls = {"BRAIN_COLLECTOR_DATABASE_URL": database_url, "BRAIN_COLLECTOR_REDIS_URL": engines.redis_url}
    return stack.enter_context(collector_process(Path("/nonexistent"), None, **urls, **environ))


def is_ready(collector: CollectorProcess) -> bool:
    try:
        return httpx.get(f"{collector.url}/readyz", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


def test_two_collectors_that_are_rolled_under_load_fail_no_request_and_store_each_event_once(
    engines: SuiteEngines, database_url: str
) -> None:
    with ExitStack() as stack:
        collectors = [
            external(stack, engines, database_url, BRAIN_COLLECTOR_SHUTDOWN_DELAY_S="0.3", BRAIN_COLLECTOR_DRAIN_S="60")
            for _ in range(2)
        ]
        load = Load([collector.url for collector in collectors])
        with load.running():
            for _ in range(ROUNDS):
                for collector in collectors:
                    already = len(load.acknowledged)
                    wait_until(lambda n=already: len(load.acknowledged) > n + 2_000, "the load is on")
                    assert collector.stop() == 0
                    collector.start()
                    wait_until(lambda each=collector: is_ready(each), "the collector is ready again")
        rows = asyncio.run(
            sql(database_url, "SELECT message, count(*) FROM system_events WHERE event_type = 'test' GROUP BY 1")
        )

    assert load.failed == []
    assert load.retried, "no request met a collector that was away: the load was none"
    assert Counter(load.acknowledged) == Counter(dict(rows))
    assert len(asyncio.run(own_events(database_url, "system_shutdown"))) >= 2 * ROUNDS


def test_a_collector_that_is_told_to_stop_serves_on_unready_and_sends_clients_away_until_the_delay_is_over(
    engines: SuiteEngines, database_url: str
) -> None:
    with ExitStack() as stack:
        collector = external(stack, engines, database_url, BRAIN_COLLECTOR_SHUTDOWN_DELAY_S="3600")
        client = stack.enter_context(httpx.Client(base_url=collector.url, timeout=PATIENCE_S))
        before = client.get("/readyz")
        os.kill(collector.pid, signal.SIGTERM)
        wait_until(lambda: client.get("/readyz").status_code == 503, "it is not ready")
        for _ in range(300):  # each on a connection of its own, for longer than a stop takes to begin
            assert client.get("/livez").status_code == 200
        answers = [client.get("/readyz"), client.post("/api/events", json=event()), client.get("/livez")]

        assert (before.status_code, before.headers.get("Connection")) == (200, None)
        assert [answer.status_code for answer in answers] == [503, 201, 200]
        assert [answer.headers["Connection"] for answer in answers] == ["close"] * 3
        assert answers[0].json()["reasons"] == ["the collector is shutting down"]
        assert collector.stop() == 0, "a second signal does not wait for the delay"

"""Clients that post batches until each is acknowledged, and remember what was: the account that faults are held to."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import event, ndjson
from tests.support.waiting import PATIENCE_S

MAX_EVENTS = 20
PAUSE_S = 0.02


class Load:
    """Threads that each post one batch after another to the collectors in turn, under its key until a 200 comes.

    `acknowledged` has the number of every event that a 200 was for. `ambiguous` requests were sent and got no answer;
    `refused` ones a 503; `wrong` is every other answer.
    """

    def __init__(self, urls: Sequence[str], threads: int = 6) -> None:
        self.acknowledged: list[int] = []
        self.in_flight = self.ambiguous = self.refused = 0
        self.wrong: list[str] = []
        self._urls = urls
        self._guard = threading.Lock()
        self._next = 0
        self._go = threading.Event()
        self._end = False
        self._idle = [threading.Event() for _ in range(threads)]
        self._threads = [threading.Thread(target=self._work, args=[idle]) for idle in self._idle]
        self._go.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Return when no request is under way and every batch begun is acknowledged."""
        self._go.clear()
        for idle in self._idle:
            assert idle.wait(PATIENCE_S), f"a batch is not acknowledged within {PATIENCE_S:.0f} s: {self.wrong[:3]}"

    def resume(self) -> None:
        """Go on."""
        for idle in self._idle:
            idle.clear()
        self._go.set()

    def close(self) -> None:
        """End, with every batch acknowledged."""
        self._end = True
        self._go.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"a batch is not acknowledged within {PATIENCE_S:.0f} s: {self.wrong[:3]}"

    def _work(self, idle: threading.Event) -> None:
        collectors = [httpx.Client(base_url=url, timeout=PATIENCE_S) for url in self._urls]
        while True:
            if not self._go.is_set():
                idle.set()
                self._go.wait()
            if self._end:
                break
            self._deliver(collectors)
        idle.set()
        for client in collectors:
            client.close()

    def _deliver(self, collectors: list[httpx.Client]) -> None:
        with self._guard:
            numbers = range(self._next, self._next + random.randint(1, MAX_EVENTS))
            self._next = numbers.stop
        key = str(new_key())
        body = ndjson(*(event(source="load", details={"number": number}) for number in numbers))
        while not self._post(random.choice(collectors), key, body):
            time.sleep(PAUSE_S)
        with self._guard:
            self.acknowledged.extend(numbers)

    def _post(self, client: httpx.Client, key: str, body: bytes) -> bool:
        with self._guard:
            self.in_flight += 1
        answer, sent = None, True
        try:
            answer = client.post(BATCH_PATH, content=body, headers={KEY_HEADER: key, "Content-Type": NDJSON})
        except httpx.ConnectError:
            sent = False
        except httpx.TransportError:
            pass
        with self._guard:
            self.in_flight -= 1
            if answer is None:
                self.ambiguous += sent
            elif answer.status_code == 503 and "Retry-After" in answer.headers:
                self.refused += 1
            elif answer.status_code != 200:
                self.wrong.append(f"{answer.status_code} {answer.text}")
        return answer is not None and answer.status_code == 200


@contextmanager
def loaded(*urls: str) -> Iterator[Load]:
    """Yield a load on the collectors at `urls`; at the end all of it is acknowledged."""
    load = Load(urls)
    try:
        yield load
    finally:
        load.close()

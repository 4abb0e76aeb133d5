"""The live tail of real processes: cuts, kills, the end of a collector, and clients that do not keep up.

BRAIN_TEST_TAIL_S=30 makes the first of them longer.
"""

import base64
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.support.collector import Process, collector_process, event, ndjson
from tests.support.effort import times
from tests.support.follower import Kind, following
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

SECONDS = float(os.environ.get("BRAIN_TEST_TAIL_S", "10"))
RATE = 500
BATCH = 50
KINDS: list[Kind] = ["stream", "ws"]


class Sender:
    """A thread that sends numbered events, `BATCH` at once and `RATE` a second, each batch until it is acknowledged."""

    def __init__(self, url: str, total: int) -> None:
        self.acknowledged = 0
        self._url, self._total = url, total
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(SECONDS + 120)
        assert self.acknowledged == self._total

    def _work(self) -> None:
        began_s = time.monotonic()
        with httpx.Client(timeout=PATIENCE_S) as client:
            for start in range(0, self._total, BATCH):
                time.sleep(max(0.0, began_s + start / RATE - time.monotonic()))
                send(client, self._url, range(start, start + BATCH))
                self.acknowledged = start + BATCH


def send(client: httpx.Client, url: str, numbers: range, message: str = "m") -> None:
    """Post a batch under its key until it is acknowledged."""
    headers = {KEY_HEADER: str(new_key()), "Content-Type": NDJSON}
    body = ndjson(*(event(source="tail", message=message, details={"number": number}) for number in numbers))
    while True:
        try:
            answer = client.post(url + BATCH_PATH, content=body, headers=headers)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            return
        assert answer.status_code == 503, answer.text
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_follower_who_is_cut_and_whose_collector_is_killed_misses_and_doubles_nothing(
    collector: CollectorProcess, kind: Kind
) -> None:
    total = int(RATE * SECONDS) // BATCH * BATCH
    with following(collector.url, kind, again=True) as follower:
        sender = Sender(collector.url, total)
        wait_until(lambda: len(follower.events) > total // 4, "a quarter has come")
        follower.leave()
        wait_until(lambda: "left" in follower.ends, "the client has hung up")
        wait_until(lambda: len(follower.events) > total // 2, "half of it has come")
        collector.kill()
        collector.start()
        sender.join()
        wait_until(lambda: len(follower.events) >= total, "all of it has come")
        with httpx.Client(timeout=PATIENCE_S) as client:
            send(client, collector.url, range(total, total + 1))  # what is doubled comes before it
        wait_until(lambda: total in follower.numbers, "the last one has come")
    stored = collector.sql("SELECT id FROM system_events WHERE source = 'tail' ORDER BY id")
    assert sorted(follower.ids) == [id for (id,) in stored]
    assert sorted(follower.numbers) == list(range(total + 1))
    assert "cut" in follower.ends
    assert follower.gaps == 0


def test_what_was_acknowledged_before_a_collector_is_stopped_reaches_every_open_tail(database_url: str) -> None:
    # Streams look so seldom that much is still to come at the end; and a busy machine is no fault.
    patient = {"BRAIN_COLLECTOR_STREAM_POLL_S": "3", "BRAIN_COLLECTOR_DRAIN_S": "30"}
    acknowledged: list[int] = []

    def post(first: int) -> None:
        """Send until the collector takes no more."""
        with httpx.Client(timeout=PATIENCE_S) as client:
            for number in range(first, 1_000_000, 4):
                body = event(source="tail", details={"number": number})
                try:
                    answer = client.post(url + "/api/events", json=body)
                except httpx.TransportError:
                    return
                if answer.status_code != 201:
                    return
                acknowledged.append(number)

    with (
        ExitStack() as stack,
        collector_process("--database-url", database_url, "--redis-url", "none", **patient) as collector,
    ):
        url = collector.url
        tails = [stack.enter_context(following(url, kind)) for kind in [*KINDS, *KINDS, "stream"]]
        posting = [threading.Thread(target=post, args=[first]) for first in range(4)]
        for each in posting:
            each.start()
        wait_until(lambda: len(acknowledged) > 500, "events are acknowledged")
        before = set(acknowledged)
        assert collector.stop() == 0
        for thread in posting:
            thread.join()
        for tail in tails:
            tail.join()
    longest = max((tail.numbers for tail in tails), key=len)
    for tail in tails:
        assert before <= set(tail.numbers)
        assert tail.numbers == longest[: len(tail.numbers)]  # in one order, none twice
        assert (tail.ends, tail.gaps) == (["whole"], 0)
    assert len(set(longest)) == len(longest)


TAILS = 100
FILTERS = 10
BATCHES = times(10)
EVENTS = 1_000
MESSAGE = "x" * 1_000
BATCH_MIB = EVENTS * (len(MESSAGE) + 200) / 2**20
MOST_MIB = TAILS * 0.5 + FILTERS * 4 * BATCH_MIB + 64
"""What they may cost: for each tail, one part (64 KiB) in its way through copies, and the transport's buffer; for each
filter, the events that are made, sent and wait, and their rows; and what a collector's memory varies by anyway."""


@contextmanager
def slow_tail(url: str, number: int) -> Iterator[socket.socket]:
    """Open a stream of either kind, hear that it is ready, and read no more."""
    host, _, port = url.removeprefix("http://").partition(":")
    kind = KINDS[number % 2]
    query = f"source=tail&event_type=test&event_type=t{number % FILTERS}"
    head = f"GET /api/events/{kind}?{query} HTTP/1.1\r\nHost: {host}\r\n"
    if kind == "ws":
        key = base64.b64encode(os.urandom(16)).decode()
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        head += f"Sec-WebSocket-Key: {key}\r\n"
    with socket.socket() as tail:
        tail.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        tail.settimeout(PATIENCE_S)
        tail.connect((host, int(port)))
        tail.sendall(head.encode() + b"\r\n")
        heard = b""
        while b"ready" not in heard:
            heard += tail.recv(64)
        yield tail


def resident_mib(collector: Process, which: str) -> float:
    status = Path(f"/proc/{collector._popen.pid}/status").read_text(encoding="ascii")
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_tails_that_do_not_read_cost_bounded_memory_and_hold_up_nobody(database_url: str) -> None:
    bounds = {"BRAIN_COLLECTOR_MAX_STREAMS": str(TAILS + 1), "BRAIN_COLLECTOR_MAX_STREAM_BYTES": "100000"}
    with (
        ExitStack() as stack,
        collector_process("--database-url", database_url, "--redis-url", "none", **bounds) as collector,
        following(collector.url, "stream") as reader,
        httpx.Client(timeout=PATIENCE_S) as client,
    ):

        def send_and_hear(first: int, batches: int) -> None:
            """Send a batch when all before it has come to the one who reads: nothing else holds it up."""
            for start in range(first, first + batches * EVENTS, EVENTS):
                send(client, collector.url, range(start, start + EVENTS), MESSAGE)
                wait_until(lambda: len(reader.events) >= start + EVENTS, "the batch has come")  # noqa: B023 - at once

        send_and_hear(0, 5)
        before_mib = resident_mib(collector, "VmRSS")
        tails = [stack.enter_context(slow_tail(collector.url, number)) for number in range(TAILS)]
        send_and_hear(5 * EVENTS, BATCHES)
        most_mib = resident_mib(collector, "VmHWM") - before_mib
        print(f"{TAILS} tails that do not read cost {most_mib:.0f} of at most {MOST_MIB:.0f} MiB")
        assert most_mib < MOST_MIB
        assert reader.numbers == list(range((5 + BATCHES) * EVENTS))
        assert reader.gaps == 0
        for tail in tails:
            hear_of_a_gap(tail)


def hear_of_a_gap(tail: socket.socket) -> None:
    """Read on, until it comes."""
    heard = b""
    while b"gap" not in heard:
        more = tail.recv(2**20)
        assert more, "it was cut off"
        heard = heard[-10:] + more

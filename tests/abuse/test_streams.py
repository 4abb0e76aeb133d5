"""Streams that nobody reads, while events arrive that are small on the wire and large in every queue."""

import gzip
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx

from brain_events.wire import BATCH_PATH, NDJSON
from tests.support.collector import event, ndjson
from tests.support.follower import following
from tests.support.memory import growth_of
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

STREAMS = 50
BURST = gzip.compress(ndjson(*(event(source="burst", details={"text": "x" * 250_000}) for _ in range(25))))
BATCHES = 4
MAX_GROWTH_MIB = STREAMS + 160
"""A queue of 1 MiB per stream, and 75 MiB for the body while it is stored."""


@contextmanager
def unread_stream(url: str, number: int) -> Iterator[None]:
    """Open a stream with a filter of its own that matches the burst, wait until it is ready, and read no more."""
    address = urlsplit(url)
    head = (
        f"GET /api/events/stream?source=burst&event_type=test&event_type=t{number} HTTP/1.1\r\nHost: {address.netloc}"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(PATIENCE_S)
        client.connect((address.hostname, address.port))
        client.sendall(head.encode() + b"\r\n\r\n")
        received = b""
        while b"ready" not in received:
            received += client.recv(64)
        yield


def test_a_burst_of_large_events_takes_no_more_memory_than_the_queues_of_the_streams(victim: CollectorProcess) -> None:
    with ExitStack() as stack, httpx.Client(base_url=victim.url, timeout=PATIENCE_S) as client:
        reader = stack.enter_context(following(victim.url, "stream", "marker"))
        for number in range(STREAMS):
            stack.enter_context(unread_stream(victim.url, number))
        with growth_of(victim.pid) as growth:
            headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
            for _ in range(BATCHES):
                response = client.post(BATCH_PATH, content=BURST, headers=headers)
                assert response.json()["accepted"] == 25
            client.post("/api/events", json=event(source="marker")).raise_for_status()
            wait_until(lambda: reader.events, "the burst has been passed on")
        print(f"{BATCHES * len(BURST):,} bytes made the collector grow by {growth.at_peak} MiB")
        assert growth.at_peak < MAX_GROWTH_MIB

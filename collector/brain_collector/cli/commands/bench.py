"""`brain-events bench`: how fast a collector stores batches, as clients on this machine see it."""

import os
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

import click
import msgspec

from brain_collector.cli.client import MAX_CONNECTIONS, Client, ClientError, Refused
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import connected
from brain_collector.demo.samples import samples
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key

SOURCE: Final = "brain-events-bench"
_BODIES: Final = 8
"""Number of different bodies that are sent in turn."""


class Result(msgspec.Struct):
    """The measurement. Times are those of one batch, from the first byte sent to the response, which follows COMMIT."""

    seconds: float
    clients: int
    events_per_batch: int
    bytes_per_batch: int
    batches: int
    events_per_s: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    refused: int


@command()
@option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="How long to send.",
)
@option(
    "--batch",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=500,
    show_default=True,
    help="Number of events in a batch.",
)
@option(
    "--clients",
    type=click.IntRange(1, MAX_CONNECTIONS),
    metavar="N",
    default=4,
    show_default=True,
    help="Number of clients that send concurrently.",
)
@option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@connected
def bench(client: Client, *, seconds: float, batch: int, clients: int, as_json: bool) -> None:
    """Measure how fast the collector stores batches.

    The events are made up, have the source brain-events-bench, and remain in the collector. Each client waits for the
    response to a batch before it sends the next one. If the collector runs on this machine, it shares the CPUs with the
    clients, and may be faster alone; if it runs on another one, the network is measured too.
    """
    result = measure(client, seconds=seconds, batch=batch, clients=clients)
    if as_json:
        click.echo(msgspec.json.encode(result))
        return
    click.echo(
        f"{result.events_per_s:,.0f} events/s stored: {result.batches:,} batches of {batch:,} events, "
        f"{result.bytes_per_batch / 1024:,.0f} KiB of uncompressed JSON each, in {result.seconds:.1f} s\n"
        f"time per batch, from sending it to the response after COMMIT: {result.p50_ms:.1f} ms (p50), "
        f"{result.p95_ms:.1f} ms (p95), {result.max_ms:.1f} ms (maximum)\n"
        f"batches refused temporarily (503, 429): {result.refused:,}\n"
        f"clients: {clients}, in one process on this machine ({os.cpu_count()} CPUs), one batch in flight each, "
        f"to {client.url}\nthe events remain in the collector; their source is {SOURCE}"
    )


def measure(client: Client, *, seconds: float, batch: int, clients: int) -> Result:
    """Send batches for `seconds`.

    Raises:
        ClientError: a batch was refused permanently, or there was no response.
    """
    bodies = list(_bodies(batch))
    senders = [_Sender(client, bodies[n % _BODIES :] + bodies[: n % _BODIES]) for n in range(clients)]
    senders[0].send(bodies[0])  # errors show here, and partitions and caches are warm afterwards
    started_s = time.monotonic()
    for sender in senders:
        sender.start(until_s=started_s + seconds)
    for sender in senders:
        sender.join()
    elapsed_s = time.monotonic() - started_s
    times_ms = sorted(time_ms for sender in senders for time_ms in sender.times_ms)
    if not times_ms:
        raise ClientError(f"{client.url} refused every batch for {elapsed_s:.1f} s")
    return Result(
        seconds=elapsed_s,
        clients=clients,
        events_per_batch=batch,
        bytes_per_batch=sum(map(len, bodies)) // len(bodies),
        batches=len(times_ms),
        events_per_s=len(times_ms) * batch / elapsed_s,
        p50_ms=times_ms[len(times_ms) // 2],
        p95_ms=times_ms[len(times_ms) * 95 // 100],
        max_ms=times_ms[-1],
        refused=sum(sender.refused for sender in senders),
    )


def _bodies(batch: int) -> Iterator[bytes]:
    endless = samples(seed=1)
    for _ in range(_BODIES):
        events = [msgspec.structs.replace(event, source=SOURCE) for event in islice(endless, batch)]
        yield b"".join(msgspec.json.encode(event) + b"\n" for event in events)


class _Sender:
    """A client that sends batches, in its own thread."""

    def __init__(self, client: Client, bodies: list[bytes]) -> None:
        self.times_ms: list[float] = []
        self.refused = 0
        self._client = client
        self._bodies = cycle(bodies)
        self._error: ClientError | None = None
        self._thread: threading.Thread | None = None

    def start(self, until_s: float) -> None:
        """Start to send, until the monotonic clock reaches `until_s`."""
        self._thread = threading.Thread(target=self._run, args=(until_s,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end.

        Raises:
            ClientError: the sender ended early with this error.
        """
        assert self._thread is not None
        self._thread.join()
        if self._error is not None:
            raise self._error

    def send(self, body: bytes) -> None:
        """Send a batch and wait for the response."""
        headers = {"Content-Type": NDJSON, KEY_HEADER: str(new_key())}
        self._client.request("POST", BATCH_PATH, body=body, headers=headers)

    def _run(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            started_s = time.monotonic()
            try:
                self.send(next(self._bodies))
            except Refused as error:
                if not error.temporary:
                    self._error = error
                    return
                self.refused += 1
                time.sleep(error.after_s or 0.1)
            except ClientError as error:
                self._error = error
                return
            else:
                self.times_ms.append((time.monotonic() - started_s) * 1_000)

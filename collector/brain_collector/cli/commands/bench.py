"""`brain-events bench`: how fast a collector stores batches, as clients on this machine see it."""

import os
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

import click
import msgspec

from brain_collector.cli.client import MOST_CONNECTIONS, Client, ClientError, Refused
from brain_collector.cli.options import CONTEXT, connected
from brain_collector.demo.samples import samples
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key

SOURCE: Final = "brain-events-bench"
_BODIES: Final = 8
"""How many different bodies are sent in turn."""


class Measured(msgspec.Struct):
    """What was measured; times are of one batch, from the first byte sent to the answer, which comes after COMMIT."""

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


@click.command(context_settings=CONTEXT)
@click.option("--seconds", type=click.FloatRange(0.1, 3_600), default=10.0, show_default=True, help="For how long.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Events in a batch.")
@click.option(
    "--clients",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help="Clients that send at once.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@connected
def bench(client: Client, *, seconds: float, batch: int, clients: int, as_json: bool) -> None:
    """Measure how fast the collector stores batches.

    It stores what it sends: made-up events of the source brain-events-bench, which stay. Each client waits for the
    answer to a batch before it sends the next. A collector on this machine shares it with the clients, so that a
    collector on another one may do more; there, the network is measured too.
    """
    found = measured(client, seconds=seconds, batch=batch, clients=clients)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(
        f"{found.events_per_s:,.0f} events/s stored: {found.batches:,} batches of {batch:,} events, "
        f"{found.bytes_per_batch / 1024:,.0f} KiB of JSON each, not compressed, in {found.seconds:.1f} s\n"
        f"a batch took {found.p50_ms:.1f} ms (p50), {found.p95_ms:.1f} ms (p95), {found.max_ms:.1f} ms at most, "
        f"from sending it to the answer after COMMIT\n"
        f"refused for now (503, 429): {found.refused:,} batches\n"
        f"clients: {clients}, in one process on this machine ({os.cpu_count()} CPUs), each with one batch under way, "
        f"to {client.url}\nits events stay; their source is {SOURCE}"
    )


def measured(client: Client, *, seconds: float, batch: int, clients: int) -> Measured:
    """Send batches for so long.

    Raises:
        ClientError: one was refused for good, or there was no answer.
    """
    bodies = list(_bodies(batch))
    runs = [_Run(client, bodies[place % _BODIES :] + bodies[: place % _BODIES]) for place in range(clients)]
    runs[0].send(bodies[0])  # what is wrong shows here; and partitions and caches are warm
    began_s = time.monotonic()
    for run in runs:
        run.start(until_s=began_s + seconds)
    for run in runs:
        run.join()
    took_s = time.monotonic() - began_s
    times_ms = sorted(each for run in runs for each in run.times_ms)
    if not times_ms:
        raise ClientError(f"{client.url} refused every batch for {took_s:.1f} s")
    return Measured(
        seconds=took_s,
        clients=clients,
        events_per_batch=batch,
        bytes_per_batch=sum(map(len, bodies)) // len(bodies),
        batches=len(times_ms),
        events_per_s=len(times_ms) * batch / took_s,
        p50_ms=times_ms[len(times_ms) // 2],
        p95_ms=times_ms[len(times_ms) * 95 // 100],
        max_ms=times_ms[-1],
        refused=sum(run.refused for run in runs),
    )


def _bodies(batch: int) -> Iterator[bytes]:
    made = samples(seed=1)
    for _ in range(_BODIES):
        events = [msgspec.structs.replace(event, source=SOURCE) for event in islice(made, batch)]
        yield b"".join(msgspec.json.encode(event) + b"\n" for event in events)


class _Run:
    """One client, on a thread of its own."""

    def __init__(self, client: Client, bodies: list[bytes]) -> None:
        self.times_ms: list[float] = []
        self.refused = 0
        self._client = client
        self._bodies = cycle(bodies)
        self._error: ClientError | None = None
        self._thread: threading.Thread | None = None

    def start(self, until_s: float) -> None:
        """Begin to send, until then."""
        self._thread = threading.Thread(target=self._run, args=(until_s,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end.

        Raises:
            ClientError: that was the end.
        """
        assert self._thread is not None
        self._thread.join()
        if self._error is not None:
            raise self._error

    def send(self, body: bytes) -> None:
        """Send a batch and wait for the answer."""
        headers = {"Content-Type": NDJSON, KEY_HEADER: str(new_key())}
        self._client.ask("POST", BATCH_PATH, body=body, headers=headers)

    def _run(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            began_s = time.monotonic()
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
                self.times_ms.append((time.monotonic() - began_s) * 1_000)

"""`brain-events sample`: made-up events, as services of a shop would log them, to try a collector with."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import click
import msgspec

from brain_collector.cli.client import Client
from brain_collector.cli.options import CONTEXT, connected
from brain_collector.cli.progress import progress
from brain_collector.cli.times import DURATION
from brain_collector.demo.samples import samples
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, Event, new_key

BATCH: Final = 500
STEPS_PER_S: Final = 5
"""How often a second events are sent at a rate."""


@click.command(context_settings=CONTEXT)
@click.argument("n", type=click.IntRange(1, 100_000_000), default=1_000)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second; else as fast as it goes.")
@click.option(
    "--over", type=DURATION, metavar="DURATION", help="Spread them over the last 2h, 7d, ...; else each is of its now."
)
@click.option("--source", help="Their source; else shop, payments, worker and so on.")
@click.option("--seed", type=int, help="The same events each time.")
@connected
def sample(
    client: Client, *, n: int, rate: float | None, over: int | None, source: str | None, seed: int | None
) -> None:
    """Send N made-up events, 1,000 unless told.

    They are such as services of a shop would log, and are for trying things: the page, a filter, an alarm.
    """
    size = BATCH if rate is None else max(1, min(BATCH, round(rate / STEPS_PER_S)))
    began_s, sent = time.monotonic(), 0
    made = _dated(islice(samples(seed), n), _clock(n, over), source)
    with progress("sent", n) as told:
        while batch := list(islice(made, size)):
            if rate is not None:
                time.sleep(max(0.0, began_s + sent / rate - time.monotonic()))
            body = b"".join(msgspec.json.encode(event) + b"\n" for event in batch)
            client.insist(BATCH_PATH, body, {"Content-Type": NDJSON, KEY_HEADER: str(new_key())})
            sent += len(batch)
            told(len(batch))
    click.echo(f"{sent:,} events are stored", err=True)


def _clock(n: int, over_s: int | None) -> Callable[[int], datetime | None]:
    """Return what tells the time of the event of a number; None is the time of its arrival."""
    if over_s is None:
        return lambda _number: None
    end, step = datetime.now(UTC), timedelta(seconds=over_s) / n
    return lambda number: end - step * (n - 1 - number)


def _dated(events: Iterator[Event], clock: Callable[[int], datetime | None], source: str | None) -> Iterator[Event]:
    for number, event in enumerate(events):
        yield msgspec.structs.replace(event, timestamp=clock(number), source=source or event.source)

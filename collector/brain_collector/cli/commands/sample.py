"""`brain-events sample`: made-up events, such as the services of a shop would log, to try a collector with."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import click
import msgspec

from brain_collector.cli.client import Client
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import connected
from brain_collector.cli.progress import progress
from brain_collector.cli.times import DURATION
from brain_collector.demo.samples import samples
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, Event, new_key

BATCH_EVENTS: Final = 500
BATCHES_PER_S: Final = 5
"""Number of batches that are sent a second when there is a rate."""


@command()
@click.argument("n", type=click.IntRange(1, 100_000_000), default=1_000)
@option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    show_default="as fast as possible",
    help="Number of events to send per second.",
)
@option(
    "--over",
    type=DURATION,
    metavar="DURATION",
    show_default="every event has the current time",
    help="Spread the timestamps over the past, for example over the last 2h or 7d.",
)
@option(
    "--source",
    metavar="SOURCE",
    show_default="shop, payments, worker and others",
    help="Source of all events.",
)
@option(
    "--seed",
    type=int,
    metavar="N",
    show_default="different events each time",
    help="Generate the same events for the same number.",
)
@connected
def sample(
    client: Client, *, n: int, rate: float | None, over: int | None, source: str | None, seed: int | None
) -> None:
    """Send N made-up events, by default 1,000.

    They resemble those of a shop's services, and let you try the dashboard, a filter or an alert.
    """
    batch_events = BATCH_EVENTS if rate is None else max(1, min(BATCH_EVENTS, round(rate / BATCHES_PER_S)))
    started_s, sent = time.monotonic(), 0
    events = _dated(islice(samples(seed), n), _clock(n, over), source)
    with progress("sent", n) as advance:
        while batch := list(islice(events, batch_events)):
            if rate is not None:
                time.sleep(max(0.0, started_s + sent / rate - time.monotonic()))
            body = b"".join(msgspec.json.encode(event) + b"\n" for event in batch)
            client.post_with_retries(BATCH_PATH, body, {"Content-Type": NDJSON, KEY_HEADER: str(new_key())})
            sent += len(batch)
            advance(len(batch))
    click.echo(f"{sent:,} events stored", err=True)


def _clock(n: int, over_s: int | None) -> Callable[[int], datetime | None]:
    """Return a function that gives the time of the event with a number; None is the time of arrival."""
    if over_s is None:
        return lambda _number: None
    end, step = datetime.now(UTC), timedelta(seconds=over_s) / n
    return lambda number: end - step * (n - 1 - number)


def _dated(events: Iterator[Event], clock: Callable[[int], datetime | None], source: str | None) -> Iterator[Event]:
    for number, event in enumerate(events):
        yield msgspec.structs.replace(event, timestamp=clock(number), source=source or event.source)

"""`brain-events query`, `get` and `stats`: stored events and their counts, as text or as JSON."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.client import Client, Refused
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import (
    connected,
    display_options,
    filter_options,
    filter_parameters,
    kind_options,
    time_options,
    use_colour,
)
from brain_collector.cli.render import StoredEvent, TextStyle, csv_rows, decode_event, decode_events, json_document
from brain_collector.errors import CollectorError

EVENTS: Final = "/api/events"
PAGE_EVENTS: Final = 500


class NothingFound(CollectorError):  # noqa: N818 - an outcome
    """There is no such event."""

    exit_code = 3


@command()
@filter_options
@option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=100,
    show_default=True,
    help="Maximum number of events.",
)
@option(
    "-o",
    "--output",
    metavar="FORMAT",
    type=click.Choice(["text", "ndjson", "json", "csv"]),
    default="text",
    show_default=True,
    help="Output format. `text`: one line per event; `ndjson`: one JSON object per line; `json`: one array; `csv`: a "
    "table for spreadsheets.",
)
@option("--json", "as_json", is_flag=True, help="Same as --output ndjson.")
@option("--fail-empty", is_flag=True, help="Exit with code 3 if no event matches.")
@display_options
@connected
def query(
    client: Client, *, limit: int, output: str, as_json: bool, fail_empty: bool, color: str, tz: str, **filters: Any
) -> None:
    """List events, newest first.

    All filters must match. Use `export` for more than a few thousand events, and `tail` to follow new ones.
    """
    style = TextStyle(colour=use_colour(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    events = list_events(client, filter_parameters(**filters), limit)
    first = next(events, None)
    output = "ndjson" if as_json else output
    for text in rendered(chain([first] if first else [], events), output, style):
        escaped = escaped_for_terminal(text) if output == "csv" and sys.stdout.isatty() else text
        click.echo(escaped, nl=False, color=True)
    if fail_empty and first is None:
        raise NothingFound("no matching events")


@command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(min=1))
@option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@display_options
@connected
def get(client: Client, *, ids: tuple[int, ...], as_json: bool, color: str, tz: str) -> None:
    """Show events in full, by id.

    `query` and `tail` print the id of an event at the end of its line, as #123.
    """
    style = TextStyle(colour=use_colour(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    for n, id in enumerate(ids):
        try:
            response = client.get(f"{EVENTS}/{id}")
        except Refused as error:
            if error.status == 404:
                raise NothingFound(f"there is no event {id}") from None
            raise
        if as_json:
            click.echo(json_document(response))
        else:
            click.echo(("\n" if n else "") + style.in_full(decode_event(response)), color=True)


class Counts(msgspec.Struct):
    """The members of a collector's statistics that are printed."""

    total_events: int
    recent_events: int
    last_event_timestamp: str | None
    events_by_severity: dict[str, int]
    events_by_type: dict[str, int]
    events_of_other_types: int = 0
    events_counted_without_type: int = 0


@command()
@time_options
@kind_options
@option("--json", "as_json", is_flag=True, help="Print the collector's JSON response.")
@connected
def stats(client: Client, *, as_json: bool, **filters: Any) -> None:
    """Count events by severity and by type.

    The counts are exact, and cover all events unless filters are given.
    """
    response = client.get(f"{EVENTS}/stats", filter_parameters(**filters))
    if as_json:
        click.echo(json_document(response))
        return
    counts = msgspec.json.decode(response, type=Counts)
    click.echo(f"events          {counts.total_events:>12,}\nlast 24 hours   {counts.recent_events:>12,}")
    click.echo(f"newest          {printable.one_line(counts.last_event_timestamp or 'none'):>12}")
    for title, numbers in (("severity", counts.events_by_severity), ("type", counts.events_by_type)):
        click.echo(f"\nby {title}")
        for value, n in sorted(numbers.items(), key=lambda item: (-item[1], item[0])):
            click.echo(f"  {printable.one_line(value):<50} {n:>12,}", color=True)
    if counts.events_of_other_types:
        click.echo(f"  {'(other types)':<50} {counts.events_of_other_types:>12,}")
    if counts.events_counted_without_type:
        untyped = f"{counts.events_counted_without_type:,}"
        click.echo(f"\n{untyped} of these were counted without their type; use --type for an exact count of one")


def list_events(client: Client, parameters: list[tuple[str, str]], limit: int) -> Iterator[StoredEvent]:
    """Yield up to `limit` events, newest first; further pages are requested as the Link header says."""
    parameters = [*parameters, ("limit", str(min(limit, PAGE_EVENTS)))]
    while True:
        response = client.request("GET", EVENTS, parameters)
        for event in decode_events(response.data):
            yield event
            limit -= 1
            if not limit:
                return
        link = re.match("<([^>]*)>", response.headers.get("Link", ""))
        if link is None:
            return
        parameters = parse_qsl(urlsplit(link[1]).query, keep_blank_values=True)


def rendered(events: Iterable[StoredEvent], output: str, style: TextStyle) -> Iterator[str]:
    """Yield events in an output format, each with its line break."""
    if output == "csv":
        yield from csv_rows(events)
    elif output == "json":
        yield "["
        for n, event in enumerate(events):
            yield (",\n" if n else "") + printable.json_text(event.json.decode())
        yield "]\n"
    else:
        for event in events:
            yield (printable.json_text(event.json.decode()) if output == "ndjson" else style.one_line(event)) + "\n"


def escaped_for_terminal(document: str) -> str:
    """Return a JSON or CSV document with control characters as escapes, which in JSON have the same meaning."""
    return printable.json_text(document.replace("\r\n", "\n"))

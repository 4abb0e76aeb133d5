"""`brain-events query`, `get` and `stats`: what the collector has, as text or as JSON."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.client import Client, Refused
from brain_collector.cli.options import (
    CONTEXT,
    asked,
    coloured,
    connected,
    filter_options,
    kind_options,
    look_options,
    time_options,
)
from brain_collector.cli.render import Found, Look, csv_rows, event, events
from brain_collector.errors import CollectorError

EVENTS: Final = "/api/events"
PAGE: Final = 500


class NothingFound(CollectorError):  # noqa: N818 - an outcome
    """There is no such event."""

    exit_code = 3


@click.command(context_settings=CONTEXT)
@filter_options
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most events.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "ndjson", "json", "csv"]),
    default="text",
    show_default=True,
    help="How events are written.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --output ndjson.")
@click.option("--fail-empty", is_flag=True, help="End with 3 if there is none.")
@look_options
@connected
def query(
    client: Client, *, limit: int, output: str, as_json: bool, fail_empty: bool, color: str, tz: str, **wanted: Any
) -> None:
    """List events, newest first."""
    look = Look(colour=coloured(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    found = listed(client, asked(**wanted), limit)
    first = next(found, None)
    output = "ndjson" if as_json else output
    for text in written(chain([first] if first else [], found), output, look):
        click.echo(for_terminal(text) if output == "csv" and sys.stdout.isatty() else text, nl=False, color=True)
    if fail_empty and first is None:
        raise NothingFound("no event is like that")


@click.command(context_settings=CONTEXT)
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="As JSON, an event a line.")
@look_options
@connected
def get(client: Client, *, ids: tuple[int, ...], as_json: bool, color: str, tz: str) -> None:
    """Show events in full, by their ids."""
    look = Look(colour=coloured(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    for place, id in enumerate(ids):
        try:
            found = client.get(f"{EVENTS}/{id}")
        except Refused as error:
            if error.status == 404:
                raise NothingFound(f"there is no event {id}") from None
            raise
        if as_json:
            click.echo(printable.json_text(found.decode()))
        else:
            click.echo(("\n" if place else "") + look.whole(event(found)), color=True)


@click.command(context_settings=CONTEXT)
@time_options
@kind_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@connected
def stats(client: Client, *, as_json: bool, **wanted: Any) -> None:
    """Count events by severity and by type."""
    answer = client.get(f"{EVENTS}/stats", asked(**wanted))
    if as_json:
        click.echo(printable.json_text(answer.decode()))
        return
    found = msgspec.json.decode(answer)
    click.echo(f"events          {found['total_events']:>12,}\nlast 24 hours   {found['recent_events']:>12,}")
    click.echo(f"newest          {found['last_event_timestamp'] or 'none':>12}")
    for title, field in (("severity", "events_by_severity"), ("type", "events_by_type")):
        click.echo(f"\nby {title}")
        for value, n in sorted(found[field].items(), key=lambda each: (-each[1], each[0])):
            click.echo(f"  {printable.one_line(value):<50} {n:>12,}", color=True)


def listed(client: Client, asked_for: list[tuple[str, str]], limit: int) -> Iterator[Found]:
    """Yield up to `limit` events, newest first, page by page as the Link header says."""
    asked_for = [*asked_for, ("limit", str(min(limit, PAGE)))]
    while True:
        answer = client.ask("GET", EVENTS, asked_for)
        for found in events(answer.data):
            yield found
            limit -= 1
            if not limit:
                return
        link = answer.headers.get("Link", "")
        if not link:
            return
        asked_for = parse_qsl(urlsplit(link[1 : link.index(">")]).query, keep_blank_values=True)


def written(found: Iterable[Found], output: str, look: Look) -> Iterator[str]:
    """Yield events as they are written, each with its line break."""
    if output == "csv":
        yield from csv_rows(found)
    elif output == "json":
        yield "["
        for place, each in enumerate(found):
            yield (",\n" if place else "") + printable.json_text(each.line.decode())
        yield "]\n"
    else:
        for each in found:
            yield (printable.json_text(each.line.decode()) if output == "ndjson" else look.line(each)) + "\n"


def for_terminal(document: str) -> str:
    """Return a document in JSON or CSV as a person may see it: with escapes, which mean the same in JSON."""
    return printable.json_text(document.replace("\r\n", "\n"))

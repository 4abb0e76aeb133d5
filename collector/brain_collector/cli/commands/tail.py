"""`brain-events tail`: recent events in chronological order; with -f, new ones as they arrive."""

import sys
from typing import Any, Final

import click

from brain_collector import printable
from brain_collector.cli.client import Client
from brain_collector.cli.commands.query import list_events
from brain_collector.cli.follow import Follower
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import connected, display_options, filter_options, filter_parameters, use_colour
from brain_collector.cli.render import StoredEvent, TextStyle
from brain_collector.cli.templates import FIELDS_OPTION, TEMPLATE_OPTION, LineFormat

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 10_000


@command()
@option(
    "-f", "--follow", is_flag=True, help="Follow new events until Ctrl-C. By default, exit after the existing ones."
)
@option(
    "-n",
    "--limit",
    type=click.IntRange(0, MAX_LIMIT),
    metavar="N",
    show_default=f"{DEFAULT_LIMIT}, or with --since all since then up to {MAX_LIMIT:,}",
    help="Start with the newest N events.",
)
@filter_options
@option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@FIELDS_OPTION
@TEMPLATE_OPTION
@display_options
@connected
def tail(
    client: Client,
    *,
    follow: bool,
    limit: int | None,
    as_json: bool,
    fields: LineFormat | None,
    template: LineFormat | None,
    color: str,
    tz: str,
    **filters: Any,
) -> None:
    """Print recent events, and with -f follow new ones.

    Existing events are printed in chronological order, new ones in the order in which they were committed. If the
    connection breaks or the collector restarts, tail resumes where it stopped: no event is lost or printed twice. With
    --until, -f has no effect.

    --fields and --template print values as in the JSON, with times in UTC, on one line. They accept paths into the
    details, for example details.items.0.sku. Only events are written to stdout.
    """
    if sum(map(bool, (as_json, fields, template))) > 1:
        raise click.UsageError("--json, --fields and --template exclude each other; give one of them")
    style = TextStyle(colour=use_colour(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    format_line = fields or template or (_json if as_json else style.one_line)

    def list_existing() -> list[StoredEvent]:
        return _newest(client, filter_parameters(**filters), limit, since=filters["since"] is not None)

    if not follow or filters["until"]:
        _print(list_existing(), format_line)
        return
    parameters = filter_parameters(**{**filters, "since": None})
    for events in Follower(client, parameters, _notify).batches(list_existing):
        _print(events, format_line)


def _newest(client: Client, parameters: list[tuple[str, str]], limit: int | None, *, since: bool) -> list[StoredEvent]:
    """Return the newest events, oldest first."""
    max_events = limit if limit is not None else MAX_LIMIT if since else DEFAULT_LIMIT
    events = list(list_events(client, parameters, max_events)) if max_events else []
    if limit is None and since and len(events) == max_events:
        _notify(f"only the newest {max_events:,} events are printed; `brain-events query` and `export` print all")
    return events[::-1]


def _json(event: StoredEvent) -> str:
    return printable.json_text(event.json.decode())


def _print(events: list[StoredEvent], format_line: LineFormat) -> None:
    """Write the events at once and flush: a program may be waiting for the output."""
    if events:
        click.echo("".join(format_line(event) + "\n" for event in events), nl=False, color=True)


def _notify(text: str) -> None:
    click.echo(f"brain-events tail: {printable.one_line(text)}", err=True)

"""`brain-events tail`: the newest events, oldest of them first, and with -f what arrives after them."""

import sys
from typing import Any, Final

import click

from brain_collector import printable
from brain_collector.cli.client import Client
from brain_collector.cli.commands.query import listed
from brain_collector.cli.follow import Follower
from brain_collector.cli.options import CONTEXT, asked, coloured, connected, filter_options, look_options
from brain_collector.cli.render import Found, Look
from brain_collector.cli.templates import FIELDS_OPTION, TEMPLATE_OPTION, Line

USUAL: Final = 10
MOST: Final = 10_000


@click.command(context_settings=CONTEXT)
@click.option("-f", "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C; without it, end.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(0, MOST),
    metavar="N",
    help=f"Begin with the newest N events.  [default: {USUAL}; with --since: all since then, {MOST:,} at most]",
)
@filter_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, an event a line.")
@FIELDS_OPTION
@TEMPLATE_OPTION
@look_options
@connected
def tail(
    client: Client,
    *,
    follow: bool,
    limit: int | None,
    as_json: bool,
    fields: Line | None,
    template: Line | None,
    color: str,
    tz: str,
    **wanted: Any,
) -> None:
    """Show the newest events, oldest of them first; with -f, go on.

    With -f, events come in the order in which they were committed. When the connection breaks, or the collector is
    started again, tail goes on where it was: nothing is lost, nothing comes twice. --until ends it: there is no
    following then.

    In --fields and --template, values are as in the JSON (times in UTC), on one line; details have paths, as
    details.items.0.sku. Only events are written to stdout.
    """
    if sum(map(bool, (as_json, fields, template))) > 1:
        raise click.UsageError("give one of --json, --fields and --template")
    look = Look(colour=coloured(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    line = fields or template or (_json if as_json else look.line)

    def beginning() -> list[Found]:
        return _newest(client, asked(**wanted), limit, since=wanted["since"] is not None)

    if not follow or wanted["until"]:
        _print(beginning(), line)
        return
    arriving = asked(**{**wanted, "since": None})
    for found in Follower(client, arriving, _say).batches(beginning):
        _print(found, line)


def _newest(client: Client, wanted: list[tuple[str, str]], limit: int | None, *, since: bool) -> list[Found]:
    """Return the newest events, oldest first."""
    most = limit if limit is not None else MOST if since else USUAL
    found = list(listed(client, wanted, most)) if most else []
    if limit is None and since and len(found) == most:
        _say(f"only the newest {most:,} are shown; `brain-events query` and `export` have all")
    return found[::-1]


def _json(found: Found) -> str:
    return printable.json_text(found.line.decode())


def _print(found: list[Found], line: Line) -> None:
    """Write them at once, and out: who reads may be waiting."""
    if found:
        click.echo("".join(line(each) + "\n" for each in found), nl=False, color=True)


def _say(text: str) -> None:
    click.echo(f"brain-events tail: {printable.one_line(text)}", err=True)

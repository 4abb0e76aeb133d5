"""The command line: what commands there are, and where. A flag stands over its variable."""

from typing import Any, Final

import click

from brain_collector.commands.group import EXIT_CODES, VARIABLES, LazyGroup
from brain_collector.commands.options import CONTEXT

_HERE: Final = "brain_collector.commands."
COMMANDS: Final = {
    "serve": ("serving:serve", "Run the collector."),
    "send": ("sending:send", "Send one event and print it as it was stored."),
    "query": ("reading:query", "List events, newest first."),
    "tail": ("tailing:tail", "Show the newest events, oldest of them first; with -f, go on."),
    "get": ("reading:get", "Show events in full, by their ids."),
    "stats": ("reading:stats", "Count events by severity and by type."),
    "histogram": ("charting:histogram", "Count events over time: of the last 24 hours, unless told."),
    "export": ("exporting:export", "Write all events of a filter to FILE, or to stdout (-)."),
    "import": ("importing:import_", "Store the events of FILE, or of stdin (-)."),
    "keys": ("keys:keys", "Make, list and revoke API keys."),
    "doctor": ("doctoring:doctor", "Find out why an application's events do not arrive."),
    "migrate": ("migrating:migrate", "Upgrade the schema, show what it is at, or downgrade it."),
    "with-postgres": ("serving:with_postgres", "Run COMMAND beside the embedded PostgreSQL."),
    "config": ("configuring:config", "Show the collector's settings."),
    "sample": ("sampling:sample", "Send N made-up events, 1,000 unless told."),
    "bench": ("benching:bench", "Measure how fast the collector stores batches."),
    "demo": ("serving:demo", "Show a collector and an application that sends it events."),
    "completion": ("completing:completion", "Print the script that lets a shell complete commands and options."),
}


def _version(ctx: click.Context, _param: click.Parameter, wanted: Any) -> None:
    if wanted and not ctx.resilient_parsing:
        from brain_collector import VERSION  # noqa: PLC0415 - read from the installed package when asked for

        click.echo(f"brain-events, version {VERSION}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    places={name: (_HERE + place, summary) for name, (place, summary) in COMMANDS.items()},
    context_settings=CONTEXT,
    epilog="\b\nExit codes:\n"
    + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    + f"\n\nWhere an option names no variable, it has {VARIABLES}<COMMAND>_<OPTION>, as {VARIABLES}TAIL_TZ=utc, and "
    f"{VARIABLES}<OPTION> for every command that has the option. Settings of the collector: see the README.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def cli() -> None:
    """Record what happens to your services, and find it again."""

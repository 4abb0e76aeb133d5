"""The command line: what commands there are, and where. A flag stands over its variable."""

from typing import Any, Final

import click

from brain_collector.cli.lazy_group import EXIT_CODES, VARIABLES, LazyGroup
from brain_collector.cli.options import CONTEXT

_HERE: Final = "brain_collector.cli.commands."
COMMANDS: Final = {
    "serve": ("serve:serve", "Run the collector."),
    "send": ("send:send", "Send one event and print it as it was stored."),
    "query": ("query:query", "List events, newest first."),
    "tail": ("tail:tail", "Show the newest events, oldest of them first; with -f, go on."),
    "get": ("query:get", "Show events in full, by their ids."),
    "stats": ("query:stats", "Count events by severity and by type."),
    "histogram": ("histogram:histogram", "Count events over time: of the last 24 hours, unless told."),
    "export": ("export:export", "Write all events of a filter to FILE, or to stdout (-)."),
    "import": ("import_events:import_", "Store the events of FILE, or of stdin (-)."),
    "keys": ("keys:keys", "Make, list and revoke API keys."),
    "doctor": ("doctor:doctor", "Find out why an application's events do not arrive."),
    "migrate": ("migrate:migrate", "Upgrade the schema, show what it is at, or downgrade it."),
    "with-postgres": ("serve:with_postgres", "Run COMMAND beside the embedded PostgreSQL."),
    "config": ("config:config", "Show the collector's settings."),
    "sample": ("sample:sample", "Send N made-up events, 1,000 unless told."),
    "bench": ("bench:bench", "Measure how fast the collector stores batches."),
    "demo": ("serve:demo", "Show a collector and an application that sends it events."),
    "completion": ("completion:completion", "Print the script that lets a shell complete commands and options."),
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
    f"{VARIABLES}<OPTION> for every command that has the option. `config show` lists the settings "
    "of the collector, the manual at /manual/ of a collector explains them.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def cli() -> None:
    """Record what happens to your services, and find it again."""

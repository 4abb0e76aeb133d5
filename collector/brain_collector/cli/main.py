"""The root of the command line: the list of commands, each with its module and its summary."""

from typing import Any, Final

import click

from brain_collector.cli.help_layout import CONTEXT
from brain_collector.cli.lazy_group import ENV_PREFIX, EXIT_CODES, LazyGroup

_PACKAGE: Final = "brain_collector.cli.commands."
COMMANDS: Final = {
    "serve": ("serve:serve", "Run the collector."),
    "send": ("send:send", "Send one event and print it as it was stored."),
    "query": ("query:query", "List events, newest first."),
    "tail": ("tail:tail", "Print recent events, and with -f follow new ones."),
    "get": ("query:get", "Show events in full, by id."),
    "stats": ("query:stats", "Count events by severity and by type."),
    "histogram": ("histogram:histogram", "Count events over time, by default over the last 24 hours."),
    "export": ("export:export", "Write all matching events to FILE, or to stdout (-)."),
    "import": ("import_events:import_", "Store the events of an NDJSON file, or of stdin (-)."),
    "keys": ("keys:keys", "Create, list and revoke API keys."),
    "doctor": ("doctor:doctor", "Find out why events do not arrive, or check the database."),
    "migrate": ("migrate:migrate", "Upgrade, show or downgrade the database schema."),
    "with-postgres": ("serve:with_postgres", "Run COMMAND while the embedded PostgreSQL runs."),
    "config": ("config:config", "Show the collector's settings."),
    "sample": ("sample:sample", "Send N made-up events, by default 1,000."),
    "bench": ("bench:bench", "Measure how fast the collector stores batches."),
    "demo": ("serve:demo", "Run a collector and an application that sends events to it."),
    "completion": ("completion:completion", "Print the completion script for a shell."),
}


def _print_version(ctx: click.Context, _param: click.Parameter, requested: Any) -> None:
    if requested and not ctx.resilient_parsing:
        from brain_collector import VERSION  # noqa: PLC0415 - reading it takes longer than the rest of `--help`

        click.echo(f"brain-events, version {VERSION}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    targets={name: (_PACKAGE + target, summary) for name, (target, summary) in COMMANDS.items()},
    context_settings=CONTEXT,
    epilog="\b\nExit codes:\n"
    + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    + f"\n\nOptions can also be set by variables: {ENV_PREFIX}<COMMAND>_<OPTION> for one command, for example "
    f"{ENV_PREFIX}TAIL_TZ=utc, or {ENV_PREFIX}<OPTION> for every command that has the option. An option whose help "
    "names a variable is set by that one instead. An option on the command line overrides its variables.\n\n"
    "`brain-events COMMAND --help` describes a command. The collector serves its manual at /manual.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Record what happens in your services, and find it again."""

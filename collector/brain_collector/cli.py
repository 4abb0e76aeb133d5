"""The command line: `serve`, `migrate`, `demo`, `send`, `keys`, `doctor`. A flag stands over its variable."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click
import msgspec

from brain_collector import VERSION, logs, server
from brain_collector import doctor as examination
from brain_collector import migrate as migrations
from brain_collector import send as sending
from brain_collector.demo import running
from brain_collector.errors import CollectorError, SettingsError
from brain_collector.keys_cli import keys
from brain_collector.settings import ENV_PREFIX, Settings, load
from brain_events.wire import SEVERITIES

Command = TypeVar("Command", bound=Callable[..., Any])

EPILOG = "Every other setting is read from the environment: see the settings table in README.md."


class Lines(click.Group):
    """A group whose errors are one line each, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CollectorError as error:
            raise click.ClickException(str(error)) from None


def setting(*names: str) -> Callable[[Command], Command]:
    """Add flags for settings; help and default come from `Settings`, the value stays text until `load` checks it."""
    described = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            known = described[name]
            default = known["default"]
            shown = "" if default in {None, "", False} else f"  [default: {default}]"
            kind = (
                {"is_flag": True}
                if default is False
                else {"metavar": "TEXT" if known.get("type") != "integer" else "N"}
            )
            option = click.option(
                f"--{name.replace('_', '-')}",
                name,
                default=None,
                **kind,
                help=f"{known['description']}  [env: {ENV_PREFIX}{name.upper()}]{shown}",
            )
            command = option(command)
        return command

    return decorate


@click.group(cls=Lines, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="brain-events")
def cli() -> None:
    """Record what happens to your services, and find it again."""
    logs.configure()


@cli.command(epilog=EPILOG)
@setting(
    "host", "port", "data_dir", "database_url", "redis_url", "api_key_file", "allowed_hosts", "require_key", "insecure"
)
def serve(**flags: Any) -> None:
    """Run the collector.

    Without --database-url it brings its own PostgreSQL and Valkey, keeps them in --data-dir, and migrates them.
    """
    server.serve(load(os.environ, **flags), _announce)


def _announce(url: str, found: server.Backed) -> None:
    settings = found.settings
    data = settings.data_dir if found.embedded else migrations.without_password(settings.dsn)
    key = " -H 'Authorization: Bearer <key>'" if settings.api_key or settings.require_key else ""
    event = '{"event_type": "hello", "severity": "info", "message": "It works"}'
    click.echo(
        f"brain-events {VERSION} serves at {url}\n"
        f"  page   {url}/\n"
        f"  docs   {url}/docs\n"
        f"  data   {data}\n"
        f"  try    curl {url}/api/events{key} -H 'Content-Type: application/json' -d '{event}'\n"
        f"         curl {url}/api/events{key}\n"
        "Ctrl-C stops it."
    )


@cli.command()
@click.argument("action", type=click.Choice(["upgrade", "current", "downgrade"]), default="upgrade")
@click.argument("revision", required=False)
@setting("database_url", "data_dir", "migrate_lock_s", "migrate_attempts")
@click.option("--sql", is_flag=True, help="Print the SQL of an upgrade from nothing instead of running it.")
@click.option("--yes", is_flag=True, help="Downgrade without asking.")
def migrate(action: str, revision: str | None, *, sql: bool, yes: bool, **flags: Any) -> None:
    """Upgrade the schema, show what it is at, or downgrade it.

    Upgrading goes to REVISION, else to the newest.

    Downgrading to `base` drops every table, events included.
    """
    if sql:
        migrations.sql(sys.stdout, revision or "head")
        return
    if action == "downgrade":
        if revision is None:
            raise click.UsageError("downgrade to which revision? `base` drops everything")
        if not yes:
            click.confirm("This drops tables, events included. Go on?", abort=True)
    with server.backed(load(os.environ, **flags)) as found:
        dsn, patience = found.settings.dsn, server.patience(found.settings)
        if action == "upgrade":
            migrations.upgrade(dsn, revision or "head", patience)
        elif action == "downgrade":
            migrations.downgrade(dsn, revision or "base", patience)
        click.echo(f"the schema is at {asyncio.run(migrations.current(dsn)) or 'none'} (newest: {migrations.HEAD})")


@cli.command("with-postgres", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@setting("data_dir")
def with_postgres(command: tuple[str, ...], **flags: Any) -> None:
    """Run COMMAND beside the embedded PostgreSQL while no collector runs, e.g. pg_restore or psql.

    The command finds the server, and the programs that come with it, by its environment.
    """
    settings = msgspec.structs.replace(load(os.environ, **flags), database_url=None, redis_url="none")
    with server.backed(settings) as found:
        code = subprocess.run(command, env={**os.environ, **found.client_environ}, check=False).returncode  # noqa: S603 - to run it is what was asked
    sys.exit(code)


@cli.command()
@click.option("--visits", default=200, show_default=True, help="Requests to the demo's shop.")
@click.option("--exit", "exit_after", is_flag=True, help="End after the tour instead of serving on.")
@setting("port")
def demo(visits: int, *, exit_after: bool, port: str | None) -> None:
    """Show a collector and an application that sends it events.

    The application uses every adapter of the SDK; what arrived is shown and checked.

    It keeps nothing: its data directory is a temporary one.
    """
    running.demo(load(os.environ, port=port), visits=visits, exit_after=exit_after, say=click.echo)


@cli.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("severity", metavar="SEVERITY", type=click.Choice(SEVERITIES))
@click.argument("message")
@click.option("--details", metavar="JSON", help="A JSON object.")
@click.option("--source", help="What the event comes from.  [env: BRAIN_EVENTS_SOURCE]", envvar="BRAIN_EVENTS_SOURCE")
@click.option(
    "--url",
    envvar="BRAIN_EVENTS_URL",
    default="http://127.0.0.1:8001",
    help="The collector's address.  [env: BRAIN_EVENTS_URL]  [default: http://127.0.0.1:8001]",
)
@click.option("--api-key", envvar="BRAIN_EVENTS_API_KEY", help="The collector's API key.  [env: BRAIN_EVENTS_API_KEY]")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long to keep trying.",
)
def send(details: str | None, **event: Any) -> None:
    """Send one event and print it as it was stored. For scripts: the exit code is 0 only when it is committed."""
    click.echo(sending.send(details=_object(details), **event))


cli.add_command(keys)


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def doctor(arguments: tuple[str, ...]) -> None:
    """Find out why an application's events do not arrive.

    It checks the SDK's settings in this environment, the way to the collector, the API key, the outbox on disk.
    With --deep it is the collector's database that is looked at.
    """
    if "--deep" in arguments:
        given = [argument for argument in arguments if argument != "--deep"]
        deep.main(given, prog_name="brain-events doctor --deep")
    sys.exit(import_module("brain_events.__main__").main(["doctor", *arguments], prog="brain-events"))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@setting("database_url", "redis_url", "data_dir")
@click.option("--days", type=click.IntRange(min=1), metavar="N", help="Recount only the last N days.  [default: all]")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0.001, max=86_400),
    default=examination.Bounds().timeout_s,
    show_default=True,
    help="Longest time for one look.",
)
@click.option(
    "--transaction-s",
    type=click.FloatRange(min=0),
    default=examination.Bounds().transaction_s,
    show_default=True,
    help="From what age a transaction is told.",
)
@click.option("--json", "as_json", is_flag=True, help="For a program: one object.")
def deep(days: int | None, timeout_s: float, transaction_s: float, *, as_json: bool, **flags: Any) -> None:
    """Look at a collector's database: counts against events, partitions, indexes, what it can lose, what is left.

    It changes nothing. The exit code is 0 if there is no problem, 1 if there is one, 2 for a wrong usage.
    """
    try:
        settings = load(os.environ, **flags)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    bounds = examination.Bounds(days, timeout_s, transaction_s)
    sys.exit(asyncio.run(examination.run(settings, bounds, sys.stdout, as_json=as_json)))


def _object(details: str | None) -> dict[str, Any] | None:
    if details is None:
        return None
    try:
        found = json.loads(details)
    except ValueError as error:
        raise click.BadParameter(f"--details is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"--details is {details[:40]!r}, must be a JSON object")
    return found

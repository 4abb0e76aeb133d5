"""`brain-events serve`, `with-postgres` and `demo`: the commands that bring engines of their own."""

import os
import subprocess
import sys
from typing import Any

import click
import msgspec

from brain_collector import VERSION, logs
from brain_collector.cli.options import CONTEXT
from brain_collector.cli.setting_flags import EPILOG, SERVE, setting
from brain_collector.demo import running
from brain_collector.server import serve as server
from brain_collector.server.engines import Backed, backed
from brain_collector.settings import load
from brain_collector.storage import migrate


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@setting(*SERVE)
def serve(**flags: Any) -> None:
    """Run the collector.

    Without --database-url it brings its own PostgreSQL and Valkey, keeps them in --data-dir, and migrates them.
    """
    logs.configure()
    server.serve(load(os.environ, **flags), _announce)


def _announce(url: str, found: Backed) -> None:
    settings = found.settings
    data = settings.data_dir if found.embedded else migrate.without_password(settings.dsn)
    key = " -H 'Authorization: Bearer <key>'" if settings.api_key or settings.require_api_key else ""
    event = '{"event_type": "hello", "severity": "info", "message": "It works"}'
    click.echo(
        f"brain-events {VERSION} serves at {url}\n"
        f"  page   {url}/\n"
        f"  docs   {url}/docs\n"
        f"  manual {url}/manual/\n"
        f"  data   {data}\n"
        f"  try    curl {url}/api/events{key} -H 'Content-Type: application/json' -d '{event}'\n"
        f"         curl {url}/api/events{key}\n"
        "Ctrl-C stops it."
    )


@click.command("with-postgres", context_settings={**CONTEXT, "ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@setting("data_dir")
def with_postgres(command: tuple[str, ...], **flags: Any) -> None:
    """Run COMMAND beside the embedded PostgreSQL.

    That is while no collector runs, and for pg_restore or psql, for example. COMMAND finds the server, and the programs
    that come with it, by its environment.
    """
    logs.configure()
    settings = msgspec.structs.replace(load(os.environ, **flags), database_url=None, redis_url="none")
    with backed(settings) as found:
        code = subprocess.run(command, env={**os.environ, **found.client_environ}, check=False).returncode  # noqa: S603 - to run it is what was asked
    sys.exit(code)


@click.command(context_settings=CONTEXT)
@click.option("--visits", default=200, show_default=True, help="Requests to the demo's shop.")
@click.option("--exit", "exit_after", is_flag=True, help="End after the tour instead of serving on.")
@setting("port")
def demo(visits: int, *, exit_after: bool, port: str | None) -> None:
    """Show a collector and an application that sends it events.

    The application uses every adapter of the SDK; what arrived is shown and checked.

    It keeps nothing: its data directory is a temporary one.
    """
    logs.configure()
    running.demo(load(os.environ, port=port), visits=visits, exit_after=exit_after, say=click.echo)

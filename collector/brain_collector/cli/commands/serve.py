"""`brain-events serve`, `with-postgres` and `demo`: the commands that start embedded engines."""

import os
import subprocess
import sys
from typing import Any

import click
import msgspec

from brain_collector import VERSION, logs
from brain_collector.addresses.masking import masked
from brain_collector.cli.help_layout import CONTEXT, command, option
from brain_collector.cli.setting_flags import EPILOG, SERVE, setting
from brain_collector.demo import running
from brain_collector.server import serve as server
from brain_collector.server.engines import Backend, open_backend
from brain_collector.settings import load


@command(epilog=EPILOG)
@setting(*SERVE)
def serve(**flags: Any) -> None:
    """Run the collector.

    Without --database-url, the collector starts its own PostgreSQL and Valkey, keeps their data in --data-dir, and
    creates or upgrades the database schema. With --database-url, run `brain-events migrate` first.

    The collector stops on Ctrl-C or SIGTERM.
    """
    logs.configure()
    server.serve(load(os.environ, **flags), _announce)


def _announce(url: str, engines: Backend) -> None:
    settings = engines.settings
    data = settings.data_dir if engines.embedded else masked(settings.dsn)
    header = " -H 'Authorization: Bearer <API key>'" if settings.api_key or settings.require_api_key else ""
    event = '{"event_type": "hello", "severity": "info", "message": "It works"}'
    click.echo(
        f"brain-events {VERSION} serves at {url}\n"
        f"  dashboard  {url}/\n"
        f"  manual     {url}/manual/\n"
        f"  API        {url}/docs\n"
        f"  data       {data}\n"
        f"  try        curl {url}/api/events{header} -H 'Content-Type: application/json' -d '{event}'\n"
        f"             curl {url}/api/events{header}\n"
        "Press Ctrl-C to stop."
    )


@command("with-postgres", context_settings={**CONTEXT, "ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@setting("data_dir")
def with_postgres(command: tuple[str, ...], **flags: Any) -> None:
    """Run COMMAND while the embedded PostgreSQL runs.

    Use it for pg_dump, pg_restore or psql while no collector runs on the data directory. The environment of COMMAND
    names the server (PGHOST, PGUSER, PGDATABASE), and PATH includes the programs of the embedded PostgreSQL.
    """
    logs.configure()
    settings = msgspec.structs.replace(load(os.environ, **flags), database_url=None, redis_url="none")
    with open_backend(settings) as engines:
        code = subprocess.run(command, env={**os.environ, **engines.client_environ}, check=False).returncode  # noqa: S603 - the user's own command
    sys.exit(code)


@command()
@option("--visits", metavar="N", default=200, show_default=True, help="Number of requests to the demo's shop.")
@option("--exit", "exit_after", is_flag=True, help="Exit after the tour. By default, the collector keeps serving.")
@setting("port")
def demo(visits: int, *, exit_after: bool, port: str | None) -> None:
    """Run a collector and an application that sends events to it.

    The application, a small shop, uses every adapter of the SDK. The demo prints what arrived and checks that every
    event arrived exactly once. Its data directory is temporary and removed at the end.
    """
    logs.configure()
    running.demo(load(os.environ, port=port), visits=visits, exit_after=exit_after, say=click.echo)

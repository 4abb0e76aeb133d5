"""`brain-events migrate`: upgrade the schema, show what it is at, or downgrade it."""

import asyncio
import os
import sys
from typing import Any

import click

from brain_collector import logs
from brain_collector.cli.options import CONTEXT
from brain_collector.cli.setting_flags import setting
from brain_collector.server import serve
from brain_collector.server.engines import backed
from brain_collector.settings import load
from brain_collector.storage import migrate as migrations


@click.command(context_settings=CONTEXT)
@click.argument("action", type=click.Choice(["upgrade", "current", "downgrade"]), default="upgrade")
@click.argument("revision", required=False)
@setting("database_url", "data_dir", "migrate_lock_s", "migrate_attempts")
@click.option("--sql", is_flag=True, help="Print the SQL of an upgrade from nothing instead of running it.")
@click.option("--yes", is_flag=True, allow_from_autoenv=False, help="Downgrade without asking.")
def migrate(action: str, revision: str | None, *, sql: bool, yes: bool, **flags: Any) -> None:
    """Upgrade the schema, show what it is at, or downgrade it.

    Upgrading goes to REVISION, else to the newest.

    Downgrading to `base` drops every table, events included.
    """
    logs.configure()
    if sql:
        migrations.sql(sys.stdout, revision or "head")
        return
    if action == "downgrade":
        if revision is None:
            raise click.UsageError("downgrade to which revision? `base` drops everything")
        if not yes:
            click.confirm("This drops tables, events included. Go on?", abort=True)
    with backed(load(os.environ, **flags)) as found:
        dsn, patience = found.settings.dsn, serve.patience(found.settings)
        if action == "upgrade":
            migrations.upgrade(dsn, revision or "head", patience)
        elif action == "downgrade":
            migrations.downgrade(dsn, revision or "base", patience)
        click.echo(f"the schema is at {asyncio.run(migrations.current(dsn)) or 'none'} (newest: {migrations.HEAD})")

"""`brain-events migrate`: upgrades the database schema, shows its revision, or downgrades it."""

import asyncio
import os
import sys
from typing import Any

import click

from brain_collector import logs
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.setting_flags import setting
from brain_collector.server.engines import open_backend
from brain_collector.settings import load
from brain_collector.storage import migrate as migrations
from brain_collector.storage.schema_version import HEAD


@command()
@click.argument("action", type=click.Choice(["upgrade", "current", "downgrade"]), default="upgrade")
@click.argument("revision", required=False)
@setting("database_url", "direct_url", "data_dir", "migrate_lock_s", "migrate_attempts")
@option("--sql", is_flag=True, help="Print the SQL that creates the schema, instead of running it.")
@option("--yes", is_flag=True, allow_from_autoenv=False, help="Downgrade without asking for confirmation.")
def migrate(action: str, revision: str | None, *, sql: bool, yes: bool, **flags: Any) -> None:
    """Upgrade, show or downgrade the database schema.

    \b
    upgrade    go to REVISION, by default the newest; this is the default action
    current    show the revision of the database
    downgrade  go back to REVISION, which is required; `base` drops every table, events included

    `serve` upgrades the embedded database by itself. Run this before you start a collector on your own PostgreSQL.
    """  # noqa: D301 - click leaves the lines after this mark as they are
    logs.configure()
    if sql:
        migrations.sql(sys.stdout, revision or "head")
        return
    if action == "downgrade":
        if revision is None:
            raise click.UsageError("downgrade needs a REVISION; `base` drops every table, events included")
        if not yes:
            click.confirm("A downgrade drops tables, events included. Continue?", abort=True)
    with open_backend(load(os.environ, **flags)) as engines:
        dsn, patience = engines.settings.session_dsn, migrations.patience(engines.settings)
        if action == "upgrade":
            migrations.upgrade(dsn, revision or "head", patience)
        elif action == "downgrade":
            migrations.downgrade(dsn, revision or "base", patience)
        click.echo(f"the schema is at {asyncio.run(migrations.current(dsn)) or 'none'} (newest: {HEAD})")

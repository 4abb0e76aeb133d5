"""`brain-events doctor`: runs the SDK's doctor on the way to a collector; with --deep, the collector's own doctor."""

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

import click

from brain_collector import doctor as deep_doctor
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.setting_flags import setting
from brain_collector.errors import SettingsError
from brain_collector.settings import load


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def doctor(arguments: tuple[str, ...]) -> None:
    """Find out why events do not arrive, or check the database.

    Without --deep, checks what an application's SDK needs: its settings in this environment, the way to the collector,
    the API key, and the outbox on disk. With --deep, checks the collector's database and cache; run
    `brain-events doctor --deep --help` for its options.
    """
    if "--deep" in arguments:
        other_arguments = [argument for argument in arguments if argument != "--deep"]
        deep.main(other_arguments, prog_name="brain-events doctor --deep")
    sys.exit(import_module("brain_events.__main__").main(["doctor", *arguments], prog="brain-events"))


@command()
@setting("database_url", "direct_url", "redis_url", "data_dir")
@option(
    "--days",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="all days",
    help="Recount only the events of the last N days.",
)
@option(
    "--timeout-s",
    type=click.FloatRange(min=0.001, max=86_400),
    metavar="SECONDS",
    default=deep_doctor.Bounds().timeout_s,
    show_default=True,
    help="Maximum time for one check.",
)
@option(
    "--transaction-s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=deep_doctor.Bounds().transaction_s,
    show_default=True,
    help="Report transactions that have been open for longer than this.",
)
@option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def deep(days: int | None, timeout_s: float, transaction_s: float, *, as_json: bool, **flags: Any) -> None:
    """Examine a collector's database and cache.

    Compares the counts with the events, and checks partitions, indexes, settings that can lose data, and the room that
    is left. Changes nothing. The exit code is 0 if there is no problem, 1 if there is one, and 2 for wrong usage.
    """
    try:
        settings = load(os.environ, **flags)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    bounds = deep_doctor.Bounds(days, timeout_s, transaction_s)
    sys.exit(asyncio.run(deep_doctor.run(settings, bounds, sys.stdout, as_json=as_json)))

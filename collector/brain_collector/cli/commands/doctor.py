"""`brain-events doctor`: the SDK's, about the way to a collector; with --deep the collector's, about its database."""

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

import click

from brain_collector import doctor as examination
from brain_collector.cli.options import CONTEXT
from brain_collector.cli.setting_flags import setting
from brain_collector.errors import SettingsError
from brain_collector.settings import load


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
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


@click.command(context_settings=CONTEXT)
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

"""Flags for the collector's settings: names, help and defaults come from `Settings` itself."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
import msgspec

from brain_collector.settings import ENV_PREFIX, Settings

Command = TypeVar("Command", bound=Callable[..., Any])

SERVE: Final = (
    *("host", "port", "data_dir", "database_url", "redis_url"),
    *("api_key_file", "allowed_hosts", "require_api_key", "insecure"),
)
"""The settings that `serve` has flags for."""
EPILOG: Final = (
    "Every other setting is read from the environment: `brain-events config show` lists them, the manual explains them."
)


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
                allow_from_autoenv=False,  # `load` reads the variables of settings
                **kind,
                help=f"{known['description']}  [env: {ENV_PREFIX}{name.upper()}]{shown}",
            )
            command = option(command)
        return command

    return decorate

"""Flags for the collector's settings: names, help and defaults come from `Settings`."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from brain_collector.cli.help_layout import option
from brain_collector.settings import ENV_PREFIX, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SERVE: Final = (
    *("host", "port", "data_dir", "database_url", "redis_url"),
    *("api_key_file", "allowed_hosts", "require_api_key", "insecure"),
)
"""The settings that `serve` has flags for."""
EPILOG: Final = (
    f"All other settings are read from variables {ENV_PREFIX}<NAME>. `brain-events config show` lists them with their "
    "values; the manual describes them (Reference, Configuration)."
)
_METAVARS: Final = {"dir": "DIR", "file": "FILE", "host": "ADDRESS", "hosts": "NAMES", "s": "SECONDS", "url": "URL"}
"""The placeholder of a value, by the last word of the setting's name."""


def setting(*names: str) -> Callable[[Decorated], Decorated]:
    """Add flags for settings; a value stays text until `load` checks it."""
    described = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            field = described[name]
            default = field["default"]
            kind = {"is_flag": True} if default is False else {"metavar": _METAVARS.get(name.rpartition("_")[2], "N")}
            add_flag = option(
                f"--{name.replace('_', '-')}",
                name,
                default=None,
                show_default=None if default in {None, "", False} else _shown(default),
                allow_from_autoenv=False,  # `load` reads the variables of settings
                shown_envvar=f"{ENV_PREFIX}{name.upper()}",
                **kind,
                help=field["description"],
            )
            command = add_flag(command)
        return command

    return decorate


def _shown(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)

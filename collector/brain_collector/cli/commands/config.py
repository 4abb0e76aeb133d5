"""`brain-events config show`: the collector's settings as they are here, and where each is from; no secret is shown."""

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.options import CONTEXT
from brain_collector.cli.setting_flags import EPILOG, SERVE, setting
from brain_collector.settings import ENV_PREFIX, Settings, load

MASK: Final = "***"
_USER_INFO: Final = re.compile(r"(?<=://)([^:/?#@]*):.*@(?=[^@]*$)")
_SECRET_PARAMETER: Final = re.compile(r"([?&][^=&]*(?:pass|secret|key|token)[^=&]*)=[^&]*", re.IGNORECASE)


class Shown(NamedTuple):
    """A setting as it is shown: its value as text, and where that is from."""

    name: str
    value: str
    origin: str


@click.group(context_settings=CONTEXT)
def config() -> None:
    """Show the collector's settings."""


@config.command(epilog=EPILOG)
@click.option("--origin", is_flag=True, help="And where each is from: a flag, the environment, a file, the default.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, with the origins.")
@setting(*SERVE)
def show(*, origin: bool, as_json: bool, **flags: Any) -> None:
    """Show every setting as `serve` would take it here, with the same flags. Secrets are masked."""
    found = described(os.environ, flags)
    if as_json:
        click.echo(msgspec.json.encode({each.name: {"value": each.value, "origin": each.origin} for each in found}))
        return
    names, values = (max(len(each[column]) for each in found) for column in (0, 1))
    for each in found:
        text = f"{each.name:<{names}}  {each.value:<{min(values, 40)}}  {each.origin if origin else ''}"
        click.echo(printable.one_line(text.rstrip()))


def described(environ: Mapping[str, str], flags: Mapping[str, Any]) -> list[Shown]:
    """Return every setting.

    Raises:
        SettingsError: they cannot be loaded.
    """
    settings = load(environ, **flags)
    return [
        Shown(name, _text(name, getattr(settings, name)), _origin(name, settings, environ, flags))
        for name in Settings.__struct_fields__
    ]


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "api_key":
        return MASK
    if name.endswith("_url"):
        return _SECRET_PARAMETER.sub(rf"\1={MASK}", _USER_INFO.sub(rf"\1:{MASK}@", value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _origin(name: str, settings: Settings, environ: Mapping[str, str], flags: Mapping[str, Any]) -> str:
    variable = f"{ENV_PREFIX}{name.upper()}"
    if flags.get(name) is not None:
        return f"flag --{name.replace('_', '-')}"
    if environ.get(variable):
        return f"env {variable}"
    if name == "api_key" and settings.api_key is not None:
        return f"file {settings.api_key_file}"
    return "default"

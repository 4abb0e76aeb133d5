"""`brain-events config show`: the collector's settings in this environment and their origins; secrets are masked."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
import msgspec

from brain_collector import printable
from brain_collector.addresses.masking import MASK, masked
from brain_collector.cli.help_layout import CONTEXT, Group, option
from brain_collector.cli.setting_flags import EPILOG, SERVE, setting
from brain_collector.settings import ENV_PREFIX, Settings, load


class ShownSetting(NamedTuple):
    """A setting as it is shown: its value as text, and the origin of the value."""

    name: str
    value: str
    origin: str


@click.group(cls=Group, context_settings=CONTEXT)
def config() -> None:
    """Show the collector's settings."""


@config.command(context_settings=CONTEXT, epilog=EPILOG)
@option("--origin", is_flag=True, help="Also show where each value comes from: a flag, a variable, a file, a default.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object, with the origins.")
@setting(*SERVE)
def show(*, origin: bool, as_json: bool, **flags: Any) -> None:
    """Show every setting as `serve` would use it in this environment.

    Accepts the flags of `serve`. Secrets are masked.
    """
    settings = shown_settings(os.environ, flags)
    if as_json:
        click.echo(
            msgspec.json.encode(
                {setting.name: {"value": setting.value, "origin": setting.origin} for setting in settings}
            )
        )
        return
    name_width, value_width = (max(len(setting[column]) for setting in settings) for column in (0, 1))
    for name, value, value_origin in settings:
        text = f"{name:<{name_width}}  {value:<{min(value_width, 40)}}  {value_origin if origin else ''}"
        click.echo(printable.one_line(text.rstrip()))


def shown_settings(environ: Mapping[str, str], flags: Mapping[str, Any]) -> list[ShownSetting]:
    """Return every setting.

    Raises:
        SettingsError: a setting is invalid.
    """
    settings = load(environ, **flags)
    return [
        ShownSetting(name, _text(name, getattr(settings, name)), _origin(name, settings, environ, flags))
        for name in Settings.__struct_fields__
    ]


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "api_key":
        return MASK
    if name.endswith("_url"):
        return value if value == "none" else masked(value)
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

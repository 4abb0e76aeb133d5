"""Options that commands share: the collector and its API key, the filter of events, the look of text."""

import os
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from brain_collector.cli.help_layout import CONNECTION, DISPLAY, FILTERS, option
from brain_collector.cli.times import MOMENT

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SEVERITIES: Final = ("info", "warning", "error", "critical")
DEFAULT_URL: Final = "http://127.0.0.1:8001"


def combined(*options: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Return one decorator that adds all options, in their order."""

    def decorate(command: Decorated) -> Decorated:
        for add_option in reversed(options):
            command = add_option(command)
        return command

    return decorate


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the collector and the API key; the command gets a `Client` as its first argument."""

    @wraps(command)  # with the parameters that click has noted on it
    def run(*, url: str, api_key: str | None, api_key_file: str | None, timeout_s: float, **arguments: Any) -> Any:
        from brain_collector.cli.client import Client, ClientError  # noqa: PLC0415 - --help does not need it

        with Client(url, _api_key(api_key, api_key_file), timeout_s) as client:
            try:
                return command(client, **arguments)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise ClientError(f"{client.url}: the response is not a collector's; check --url") from None

    return _CONNECTION_OPTIONS(run)


_CONNECTION_OPTIONS: Final = combined(
    option(
        "--url",
        section=CONNECTION,
        envvar="BRAIN_EVENTS_URL",
        show_envvar=True,
        metavar="URL",
        default=DEFAULT_URL,
        show_default=True,
        help="The collector's address.",
    ),
    option(
        "--api-key",
        section=CONNECTION,
        envvar="BRAIN_EVENTS_API_KEY",
        show_envvar=True,
        metavar="KEY",
        help="The API key. Every user of this machine can see the arguments of a command: prefer the variable or "
        "--api-key-file.",
    ),
    option(
        "--api-key-file",
        section=CONNECTION,
        envvar="BRAIN_EVENTS_API_KEY_FILE",
        show_envvar=True,
        metavar="FILE",
        help="A file whose first line is the API key.",
    ),
    option(
        "--timeout-s",
        section=CONNECTION,
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=30.0,
        show_default=True,
        help="Maximum wait for a response.",
    ),
)


def _api_key(key: str | None, file: str | None) -> str | None:
    if key or not file:
        return key or None
    try:
        first_line = Path(file).expanduser().read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        raise click.UsageError(f"--api-key-file {file}: {error.strerror}") from None
    if not first_line:
        raise click.UsageError(f"--api-key-file {file}: the first line is empty; write the API key there")
    return first_line


def _check_details(_ctx: click.Context, _param: click.Parameter, filters: tuple[str, ...]) -> tuple[str, ...]:
    for text in filters:
        path, equals, _ = text.partition("=")
        if not path or not equals:
            raise click.BadParameter(f"{text[:60]!r} is not PATH=VALUE, for example user.id=42")
    return filters


time_options: Final = combined(
    option(
        "--since",
        section=FILTERS,
        metavar="TIME",
        type=MOMENT,
        help="Only events at or after this time: an age (15m, 2h, 7d) or RFC 3339 (2026-01-02T23:45:12Z).",
    ),
    option(
        "--until",
        section=FILTERS,
        metavar="TIME",
        type=MOMENT,
        help="Only events before this time. Same forms as --since.",
    ),
)

kind_options: Final = combined(
    option(
        "--severity",
        section=FILTERS,
        metavar="SEVERITY",
        type=click.Choice(SEVERITIES),
        help=f"Only events of this severity: {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}.",
    ),
    option(
        "--severity-min",
        section=FILTERS,
        metavar="SEVERITY",
        type=click.Choice(SEVERITIES),
        help="Only events of this severity or a higher one.",
    ),
    option(
        "--type",
        "types",
        section=FILTERS,
        multiple=True,
        metavar="TYPE",
        help="Only events of this type. Repeat for several types.",
    ),
)

filter_options: Final = combined(
    time_options,
    kind_options,
    option("--source", section=FILTERS, metavar="SOURCE", help="Only events of this source."),
    option(
        "--details",
        section=FILTERS,
        multiple=True,
        metavar="PATH=VALUE",
        callback=_check_details,
        help="Only events with this value in their details, for example user.id=42. Repeat for several conditions; "
        "all must hold.",
    ),
    option(
        "--grep",
        section=FILTERS,
        metavar="WORDS",
        help="Only events that contain these words in type, message, source or the strings of details. Words are "
        "matched whole and without regard to case. Examples: 'timeout \"connection refused\" -retry', 'this or that'.",
    ),
)

display_options: Final = combined(
    option(
        "--color",
        section=DISPLAY,
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="When to use colours. `auto` uses them on a terminal, and respects NO_COLOR, FORCE_COLOR and TERM=dumb.",
    ),
    option(
        "--tz",
        section=DISPLAY,
        type=click.Choice(["local", "utc"]),
        default="local",
        show_default=True,
        help="Time zone of the times in text output.",
    ),
)


def use_colour(color: str, *, is_terminal: bool) -> bool:
    """Return whether to use colours: decided by --color, else by NO_COLOR, FORCE_COLOR and TERM, in this order."""
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal and os.environ.get("TERM") != "dumb"


def filter_parameters(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    severity: str | None = None,
    severity_min: str | None = None,
    types: tuple[str, ...] = (),
    source: str | None = None,
    details: tuple[str, ...] = (),
    grep: str | None = None,
) -> list[tuple[str, str]]:
    """Return the parameters of the API for the options of a filter."""
    single = {
        "from": since.isoformat() if since else None,
        "to": until.isoformat() if until else None,
        "severity": severity,
        "severity_min": severity_min,
        "source": source,
        "q": grep,
    }
    parameters = [(name, value) for name, value in single.items() if value is not None]
    parameters += [("event_type", event_type) for event_type in types]
    for condition in details:
        path, _, value = condition.partition("=")
        parameters.append((f"details.{path}", value))
    return parameters

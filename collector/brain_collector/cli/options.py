"""Options that commands share: which collector and which key; which events; how text looks."""

import os
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from brain_collector.cli.times import MOMENT

Command = TypeVar("Command", bound=Callable[..., Any])

SEVERITIES: Final = ("info", "warning", "error", "critical")
DEFAULT_URL: Final = "http://127.0.0.1:8001"
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def several(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return one decorator that adds all of them, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which collector, and with which key; the command gets a `Client` first."""

    @wraps(command)  # with the parameters that click has noted on it
    def run(*, url: str, api_key: str | None, api_key_file: str | None, timeout_s: float, **arguments: Any) -> Any:
        from brain_collector.cli.client import Client  # noqa: PLC0415 - --help does without

        with Client(url, _key(api_key, api_key_file), timeout_s) as client:
            return command(client, **arguments)

    return _CONNECTION(run)


_CONNECTION: Final = several(
    click.option(
        "--url",
        envvar="BRAIN_EVENTS_URL",
        default=DEFAULT_URL,
        help=f"The collector's address.  [env: BRAIN_EVENTS_URL]  [default: {DEFAULT_URL}]",
    ),
    click.option(
        "--api-key",
        envvar="BRAIN_EVENTS_API_KEY",
        metavar="KEY",
        help="The collector's API key. As an argument every user of this machine sees it: better by its variable, or "
        "--api-key-file.  [env: BRAIN_EVENTS_API_KEY]",
    ),
    click.option(
        "--api-key-file",
        envvar="BRAIN_EVENTS_API_KEY_FILE",
        metavar="FILE",
        help="A file whose first line is the key.  [env: BRAIN_EVENTS_API_KEY_FILE]",
    ),
    click.option(
        "--timeout-s",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        help="Longest wait for an answer.",
    ),
)


def _key(given: str | None, file: str | None) -> str | None:
    if given or not file:
        return given or None
    try:
        key = Path(file).expanduser().read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        raise click.UsageError(f"--api-key-file {file}: {error.strerror}") from None
    if not key:
        raise click.UsageError(f"--api-key-file {file}: its first line is empty; write the key there")
    return key


def _details(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for text in given:
        path, equals, _ = text.partition("=")
        if not path or not equals:
            raise click.BadParameter(f"{text[:60]!r} is no path=value, as user.id=42")
    return given


time_options: Final = several(
    click.option(
        "--since", metavar="WHEN", type=MOMENT, help="Only events from then on: an age (15m, 2h, 7d) or RFC 3339."
    ),
    click.option("--until", metavar="WHEN", type=MOMENT, help="Only events before then; written as --since."),
)

kind_options: Final = several(
    click.option("--severity", type=click.Choice(SEVERITIES), help="Only this severity."),
    click.option("--severity-min", type=click.Choice(SEVERITIES), help="Only this severity or a higher one."),
    click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this event type; repeat for several."),
)

filter_options: Final = several(
    time_options,
    kind_options,
    click.option("--source", help="Only this source."),
    click.option(
        "--details",
        multiple=True,
        metavar="PATH=VALUE",
        callback=_details,
        help="Only with this value in the details, as user.id=42; repeat for several.",
    ),
    click.option(
        "--grep",
        metavar="WORDS",
        help="Only with these words in type, message, source or the texts of details: whole words, upper or lower "
        "case alike. 'timeout \"connection refused\" -retry', 'this or that'.",
    ),
)

look_options: Final = several(
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colours. auto: on a terminal; NO_COLOR, FORCE_COLOR and TERM=dumb are heeded.",
    ),
    click.option(
        "--tz", type=click.Choice(["local", "utc"]), default="local", show_default=True, help="Time zone of text."
    ),
)


def coloured(color: str, *, is_terminal: bool) -> bool:
    """Return whether to colour: what was asked for, else NO_COLOR, FORCE_COLOR, TERM, in this order."""
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal and os.environ.get("TERM") != "dumb"


def asked(
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
    """Return the API's parameters for the options of a filter."""
    given = {
        "from": since.isoformat() if since else None,
        "to": until.isoformat() if until else None,
        "severity": severity,
        "severity_min": severity_min,
        "source": source,
        "q": grep,
    }
    found = [(name, value) for name, value in given.items() if value is not None]
    found += [("event_type", each) for each in types]
    for each in details:
        path, _, value = each.partition("=")
        found.append((f"details.{path}", value))
    return found

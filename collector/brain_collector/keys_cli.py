"""`brain-events keys`: make, list and revoke the API keys of a collector, over HTTP. Nothing else is printed."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, wraps
from http.client import CREATED, NO_CONTENT, OK
from typing import Any, Final

import click
import msgspec
import urllib3

from brain_collector.errors import CollectorError
from brain_collector.keys import SCOPES, prefix_of
from brain_collector.schema import ApiKey, KeyCreated
from brain_collector.send import check_address, detail_of

PATH: Final = "/api/keys"
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Ask = Callable[..., bytes]


class KeysError(CollectorError):
    """The collector did not do it, or did not say so."""


def seconds(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """Return a duration, as 90d, in seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,9})([smhd])", text, re.ASCII)
    if found is None:
        raise click.BadParameter(f"{text[:30]!r} is no duration; write a number and s, m, h or d, as 90d")
    return int(found[1]) * _UNITS_S[found[2]]


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which collector, and with which key; the command gets what asks it."""

    @wraps(command)  # with the parameters that click has noted on it
    def run(*, url: str, api_key: str | None, timeout_s: float, **arguments: Any) -> None:
        check_address(url, api_key)
        command(partial(_ask, url.rstrip("/"), api_key, timeout_s), **arguments)

    for option in (
        click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True),
        click.option("--api-key", envvar="BRAIN_EVENTS_API_KEY", help="A key that may.  [env: BRAIN_EVENTS_API_KEY]"),
        click.option(
            "--url",
            envvar="BRAIN_EVENTS_URL",
            default="http://127.0.0.1:8001",
            help="The collector's address.  [env: BRAIN_EVENTS_URL]  [default: http://127.0.0.1:8001]",
        ),
    ):
        run = option(run)
    return run


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    This needs a key with the scope `admin`; where no key was ever made yet, none is needed, and the first must have it.
    """


@keys.command()
@connected
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="What it may do.")
@click.option(
    "--expires-in",
    metavar="DURATION",
    callback=seconds,
    help="How long it is good, as 90d, 12h, 30m; else until revoked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all there is to know of it, as JSON.")
def create(ask: Ask, *, name: str, scopes: tuple[str, ...], expires_in: int | None, as_json: bool) -> None:
    """Make a key and print it: this once, only its hash is stored."""
    wanted = {"name": name, "scopes": scopes} | ({"expires_in_s": expires_in} if expires_in else {})
    try:
        answer = ask("POST", PATH, CREATED, body=msgspec.json.encode(wanted))
    except _NoAnswer as error:
        raise KeysError(f"{error}; it may have been made all the same: look with `brain-events keys list`") from None
    made = _decoded(answer, KeyCreated)
    if as_json:
        click.echo(answer)
        return
    click.echo(f"{made.name}: key {made.id}, {', '.join(made.scopes)}, {_life(made)}; it is shown this once:", err=True)
    click.echo(made.key)


@keys.command(name="list")
@connected
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(ask: Ask, *, as_json: bool) -> None:
    """Print every key, oldest first; never a key's text."""
    answer = ask("GET", PATH, OK)
    found = _decoded(answer, list[ApiKey])
    if as_json:
        click.echo(answer)
        return
    rows = [("ID", "PREFIX", "SCOPES", "STATE", "LAST USED", "NAME")]
    rows += [
        (str(key.id), key.prefix, ",".join(key.scopes), _life(key), _minute(key.last_used_at) or "never", key.name)
        for key in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
@connected
@click.argument("which", metavar="ID_OR_PREFIX")
def revoke(ask: Ask, *, which: str) -> None:
    """Refuse a key from now on. Every collector does within 5 s; revoking it again changes nothing."""
    given = prefix_of(which) or which.removeprefix("be_")  # the whole text will do, and is not shown
    found = _decoded(ask("GET", PATH, OK), list[ApiKey])
    ids = [key.id for key in found if given in {str(key.id), key.prefix}]
    if not ids:
        raise KeysError(f"there is no key {given[:30]!r}; `brain-events keys list` shows them")
    ask("DELETE", f"{PATH}/{ids[0]}", NO_CONTENT)


class _NoAnswer(KeysError):  # noqa: N818 - an outcome
    """It was asked, and may have done it."""


def _ask(
    url: str, api_key: str | None, timeout_s: float, method: str, path: str, wanted: int, *, body: bytes | None = None
) -> bytes:
    """Ask once: what was not answered may have been done."""
    headers = {"Content-Type": "application/json"} if body else {}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    timeout = urllib3.Timeout(total=timeout_s)
    try:
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            answer = pool.request(method, url + path, body=body, headers=headers, redirect=False)
    except urllib3.exceptions.LocationParseError as error:
        raise KeysError(f"{url} is no URL: {error}") from None
    except urllib3.exceptions.NewConnectionError as error:
        raise KeysError(f"{url}: no connection ({error}); does the collector run there? Set BRAIN_EVENTS_URL") from None
    except urllib3.exceptions.HTTPError as error:
        raise _NoAnswer(f"{url}: no answer ({error})") from None
    if answer.status != wanted:
        raise KeysError(f"{url}{path} answered {answer.status}: {detail_of(answer.data.decode(errors='replace'))}")
    return answer.data


def _decoded(answer: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KeysError(f"what answered is no collector: {answer[:100]!r}") from None


def _life(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_minute(key.revoked_at)}"
    if key.expires_at is None:
        return "good until revoked"
    return f"{'good until' if key.expires_at > datetime.now(UTC) else 'expired'} {_minute(key.expires_at)}"


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"

"""`brain-events keys`: make, list and revoke the API keys of a collector, over HTTP. Nothing else is printed."""

from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from brain_collector.access.keyring import SCOPES, prefix_of
from brain_collector.cli.client import Client, ClientError, NoAnswer
from brain_collector.cli.options import CONTEXT, connected
from brain_collector.cli.times import DURATION
from brain_collector.schema import ApiKey, KeyCreated

PATH: Final = "/api/keys"


@click.group(context_settings=CONTEXT)
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
    type=DURATION,
    help="How long it is good, as 90d, 12h, 30m; else until revoked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all there is to know of it, as JSON.")
def create(client: Client, *, name: str, scopes: tuple[str, ...], expires_in: int | None, as_json: bool) -> None:
    """Make a key and print it: this once, only its hash is stored."""
    wanted = {"name": name, "scopes": scopes} | ({"expires_in_s": expires_in} if expires_in else {})
    try:
        answer = client.ask(
            "POST", PATH, body=msgspec.json.encode(wanted), headers={"Content-Type": "application/json"}
        ).data
    except NoAnswer as error:
        raise NoAnswer(f"{error}; it may have been made all the same: look with `brain-events keys list`") from None
    made = _decoded(answer, KeyCreated)
    if as_json:
        click.echo(answer)
        return
    click.echo(f"{made.name}: key {made.id}, {', '.join(made.scopes)}, {_life(made)}; it is shown this once:", err=True)
    click.echo(made.key)


@keys.command(name="list")
@connected
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(client: Client, *, as_json: bool) -> None:
    """Print every key, oldest first; never a key's text."""
    answer = client.get(PATH)
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
def revoke(client: Client, *, which: str) -> None:
    """Refuse a key from now on. Every collector does within 5 s; revoking it again changes nothing."""
    given = prefix_of(which) or which.removeprefix("be_")  # the whole text will do, and is not shown
    found = _decoded(client.get(PATH), list[ApiKey])
    ids = [key.id for key in found if given in {str(key.id), key.prefix}]
    if not ids:
        raise ClientError(f"there is no key {given[:30]!r}; `brain-events keys list` shows them")
    client.ask("DELETE", f"{PATH}/{ids[0]}")


def _decoded(answer: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ClientError(f"what answered is no collector: {answer[:100]!r}") from None


def _life(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_minute(key.revoked_at)}"
    if key.expires_at is None:
        return "good until revoked"
    return f"{'good until' if key.expires_at > datetime.now(UTC) else 'expired'} {_minute(key.expires_at)}"


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"

"""`brain-events keys`: creates, lists and revokes the API keys of a collector, over HTTP."""

from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from brain_collector import printable
from brain_collector.access.keyring import SCOPES, prefix_of
from brain_collector.cli.client import Client, ClientError, NoResponse
from brain_collector.cli.help_layout import CONTEXT, Group, option
from brain_collector.cli.options import connected
from brain_collector.cli.render import json_document
from brain_collector.cli.times import DURATION
from brain_collector.schema import ApiKey, KeyCreated

PATH: Final = "/api/keys"


@click.group(cls=Group, context_settings=CONTEXT)
def keys() -> None:
    """Create, list and revoke API keys.

    These commands need an API key with the scope `admin`. Before the first key is created, none is needed; the first
    key must have the scope `admin`.
    """


@keys.command(context_settings=CONTEXT)
@connected
@click.argument("name")
@option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    type=click.Choice(SCOPES),
    help="What the key allows. `ingest`: send events; `read`: query them; `write`: change and delete them; `admin`: "
    "manage API keys and see rejected lines. Repeat for several scopes; none implies another.",
)
@option(
    "--expires-in",
    metavar="DURATION",
    type=DURATION,
    show_default="never",
    help="Let the key expire after this time, for example 90d, 12h or 30m.",
)
@option("--json", "as_json", is_flag=True, help="Print the key and its attributes as JSON.")
def create(client: Client, *, name: str, scopes: tuple[str, ...], expires_in: int | None, as_json: bool) -> None:
    """Create an API key and print it.

    The key is shown only once: the collector stores its hash. NAME is for people; it does not have to be unique.
    """
    body = {"name": name, "scopes": scopes} | ({"expires_in_s": expires_in} if expires_in else {})
    try:
        response = client.request(
            "POST", PATH, body=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
        ).data
    except NoResponse as error:
        raise NoResponse(f"{error}; the key may have been created nevertheless: see `brain-events keys list`") from None
    key = _decoded(response, KeyCreated)
    if as_json:
        click.echo(json_document(response))
        return
    attributes = f"{key.name}: key {key.id}, {', '.join(key.scopes)}, {_state(key)}"
    click.echo(f"{printable.one_line(attributes)}. Store it now, it is shown only once:", err=True)
    click.echo(printable.one_line(key.key))


@keys.command(name="list", context_settings=CONTEXT)
@connected
@option("--json", "as_json", is_flag=True, help="Print the keys as JSON.")
def list_(client: Client, *, as_json: bool) -> None:
    """List all API keys, oldest first.

    The text of a key is never shown, only its prefix.
    """
    response = client.get(PATH)
    api_keys = _decoded(response, list[ApiKey])
    if as_json:
        click.echo(json_document(response))
        return
    rows = [("ID", "PREFIX", "SCOPES", "STATE", "LAST USED", "NAME")]
    rows += [
        (str(key.id), key.prefix, ",".join(key.scopes), _state(key), _minute(key.last_used_at) or "never", key.name)
        for key in api_keys
    ]
    cells = [list(map(printable.one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command(context_settings=CONTEXT)
@connected
@click.argument("id_or_prefix", metavar="ID_OR_PREFIX")
def revoke(client: Client, *, id_or_prefix: str) -> None:
    """Revoke an API key.

    Every collector refuses the key within 5 s. Revoking it again changes nothing. `brain-events keys list` shows ids
    and prefixes.
    """
    reference = prefix_of(id_or_prefix) or id_or_prefix.removeprefix("be_")  # the full text works too, and is not shown
    api_keys = _decoded(client.get(PATH), list[ApiKey])
    ids = [key.id for key in api_keys if reference in {str(key.id), key.prefix}]
    if not ids:
        raise ClientError(f"there is no API key {reference[:30]!r}; `brain-events keys list` shows the existing ones")
    client.request("DELETE", f"{PATH}/{ids[0]}")


def _decoded(response: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(response, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ClientError(f"the response is not a collector's: {response[:100]!r}; check --url") from None


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_minute(key.revoked_at)}"
    if key.expires_at is None:
        return "valid until revoked"
    return f"{'valid until' if key.expires_at > datetime.now(UTC) else 'expired'} {_minute(key.expires_at)}"


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"

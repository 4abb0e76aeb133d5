"""`brain-events send`: one event, from a script."""

import json
from typing import Any

import click
import msgspec

from brain_collector.cli.client import Client
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import SEVERITIES, connected
from brain_collector.cli.render import json_document
from brain_events.wire import KEY_HEADER, Event, new_key


@command()
@click.argument("event_type", metavar="TYPE")
@click.argument("severity", metavar="SEVERITY", type=click.Choice(SEVERITIES))
@click.argument("message")
@option(
    "--details",
    metavar="JSON",
    help="""Further data, as a JSON object. Example: '{"order": 42, "user": {"id": 7}}'""",
)
@option(
    "--source",
    metavar="SOURCE",
    envvar="BRAIN_EVENTS_SOURCE",
    show_envvar=True,
    help="Where the event comes from, for example the name of the service.",
)
@connected
def send(client: Client, *, details: str | None, **event: Any) -> None:
    """Send one event and print it as it was stored.

    TYPE is any short name, for example `deployment`. SEVERITY is info, warning, error or critical. A request that fails
    is repeated until --timeout-s, and never stores the event twice. The exit code is 0 only if the event is committed.
    """
    body = msgspec.json.encode(Event(details=_object(details), **event))
    headers = {"Content-Type": "application/json", KEY_HEADER: str(new_key())}  # a retry stores nothing twice
    response = client.post_with_retries("/api/events", body, headers).data
    click.echo(json_document(response))


def _object(details: str | None) -> dict[str, Any] | None:
    if details is None:
        return None
    try:
        decoded = json.loads(details)
    except ValueError as error:
        raise click.BadParameter(f"--details is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise click.BadParameter(f"--details is {details[:40]!r}, must be a JSON object")
    return decoded

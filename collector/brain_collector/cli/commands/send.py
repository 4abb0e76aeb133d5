"""`brain-events send`: one event, from a script."""

import json
from typing import Any

import click
import msgspec

from brain_collector.cli.client import Client
from brain_collector.cli.options import CONTEXT, SEVERITIES, connected
from brain_events.wire import KEY_HEADER, Event, new_key


@click.command(context_settings=CONTEXT)
@click.argument("event_type", metavar="TYPE")
@click.argument("severity", metavar="SEVERITY", type=click.Choice(SEVERITIES))
@click.argument("message")
@click.option("--details", metavar="JSON", help="A JSON object.")
@click.option("--source", help="What the event comes from.  [env: BRAIN_EVENTS_SOURCE]", envvar="BRAIN_EVENTS_SOURCE")
@connected
def send(client: Client, *, details: str | None, **event: Any) -> None:
    """Send one event and print it as it was stored. For scripts: the exit code is 0 only when it is committed."""
    body = msgspec.json.encode(Event(details=_object(details), **event))
    headers = {"Content-Type": "application/json", KEY_HEADER: str(new_key())}  # a retry stores nothing twice
    click.echo(client.insist("/api/events", body, headers).data)


def _object(details: str | None) -> dict[str, Any] | None:
    if details is None:
        return None
    try:
        found = json.loads(details)
    except ValueError as error:
        raise click.BadParameter(f"--details is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"--details is {details[:40]!r}, must be a JSON object")
    return found

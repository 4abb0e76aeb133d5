"""One event to a collector, from a script: sent again under the same key until it is committed or refused."""

from typing import Any

import msgspec

from brain_collector.client import Client
from brain_events.wire import KEY_HEADER, Event, new_key


def send(
    client: Client,
    *,
    event_type: str,
    severity: str,
    message: str,
    details: dict[str, Any] | None = None,
    source: str | None = None,
) -> str:
    """Return the stored event as JSON.

    Raises:
        ClientError: it was refused, or not stored within the client's time.
    """
    body = msgspec.json.encode(Event(event_type, severity, message, details, source))
    headers = {"Content-Type": "application/json", KEY_HEADER: str(new_key())}
    return client.insist("/api/events", body, headers).data.decode()

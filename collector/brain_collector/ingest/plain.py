"""Plain events and updates: those that need no translation. Any other line is an error here, and is then validated."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from brain_collector.schema import Details, EventType, Severity, Source

Moment = Annotated[datetime, Meta(tz=True)]


class PlainEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event with the four severities, a timestamp in RFC 3339, and no other fields."""

    event_type: EventType
    severity: Severity
    message: str
    details: Details = msgspec.field(default_factory=msgspec.Raw)
    source: Source | None = None
    timestamp: Moment | None = None


class PlainUpdate(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A partial update: absent fields are left unchanged."""

    event_type: EventType | msgspec.UnsetType = msgspec.UNSET
    severity: Severity | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    details: Details | msgspec.UnsetType = msgspec.UNSET
    source: Source | msgspec.UnsetType | None = msgspec.UNSET
    timestamp: Moment | msgspec.UnsetType = msgspec.UNSET
    id: int | msgspec.UnsetType = msgspec.UNSET
    created_at: datetime | msgspec.UnsetType = msgspec.UNSET
    matches: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

"""The structs of the HTTP API: OpenAPI is made of them, responses are encoded from them, and requests decoded.

Events are decoded into the structs of `ingest.plain`, or translated by `ingest.validate`.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITY_NAMES, SOURCE_MAX_CHARS

MAX_EPOCH: Final = 10**20
"""Numbers from this on are not timestamps, in any unit."""

Severity = Literal["info", "warning", "error", "critical"]
SentSeverity = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "type": ["string", "integer"],
            "enum": [*sorted(SEVERITY_NAMES), *range(8)],
            "description": (
                "One of the four severities, or a name of syslog or of a logging library, in any case; or a number of "
                "syslog, also as text."
            ),
        }
    ),
]
SentTimestamp = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": 0, "exclusiveMaximum": MAX_EPOCH},
                {"type": "string", "pattern": r"^[0-9]{1,19}(\.[0-9]{1,9})?$"},
            ],
            "description": (
                "RFC 3339, by default in UTC; or a time since 1970 in seconds, milliseconds, microseconds or "
                "nanoseconds, as a number or as text. The size of the number tells the unit."
            ),
        }
    ),
]
State = Literal["up", "down"]
KeyScope = Literal["ingest", "read", "write", "admin"]
"""A permission of an API key. No scope implies another."""
EventType = Annotated[str, Meta(min_length=1, max_length=EVENT_TYPE_MAX_CHARS)]
Source = Annotated[str, Meta(max_length=SOURCE_MAX_CHARS)]
KeyName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+(?![\s\S])",
    ),
]
"""One line of text, without control characters and without characters that change the direction of writing."""
Details = Annotated[
    msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"], "description": "Any JSON object."})
]
"""Details remain JSON text from the socket to Postgres and back; they are never turned into Python objects."""


class EventCreate(msgspec.Struct):
    """An event as a client sends it. The default of `timestamp` is the time of arrival.

    Fields that are not listed here become details.
    """

    event_type: EventType
    severity: SentSeverity
    message: str
    details: Details = msgspec.field(default_factory=msgspec.Raw)
    source: Source | None = None
    timestamp: SentTimestamp | None = None


class EventUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """A partial update of an event: absent fields are left unchanged.

    An event can be sent back as it was received: `id`, `created_at`, `matches` and `matches_cut` are ignored, and
    `timestamp`, if it is present, must equal the event's.
    """

    event_type: EventType | msgspec.UnsetType = msgspec.UNSET
    severity: SentSeverity | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    details: Details | msgspec.UnsetType = msgspec.UNSET
    source: Source | msgspec.UnsetType | None = msgspec.UNSET
    timestamp: SentTimestamp | msgspec.UnsetType = msgspec.UNSET
    id: int | msgspec.UnsetType = msgspec.UNSET
    created_at: datetime | msgspec.UnsetType = msgspec.UNSET
    matches: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    matches_cut: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Match(msgspec.Struct, gc=False):
    """A match of a search: the characters from `start` up to, excluding, `end` of the text that `at` points to."""

    at: str
    start: int
    end: int


class Event(msgspec.Struct, gc=False):
    """A stored event. `created_at` is the time of the transaction that stored it; `matches` is present with `q`.

    `matches_cut` is true if the event may have more matches than are listed; otherwise it is absent.
    """

    id: int
    event_type: str
    severity: str
    message: str
    details: Details
    source: str | None
    timestamp: datetime
    created_at: datetime
    matches: list[Match] | msgspec.UnsetType = msgspec.UNSET
    matches_cut: bool | msgspec.UnsetType = msgspec.UNSET


class Stats(msgspec.Struct, frozen=True):
    """Exact counts of events. `recent_events` counts those of the last 24 hours.

    `events_by_type` has the most frequent types. `events_of_other_types` counts the events of all others; it is absent
    if there are none. Of these, `events_counted_without_type` are from days with more types than are counted by name: a
    type in `events_by_type` may have further events among them. Absent if there are none.
    """

    total_events: int
    events_by_severity: dict[str, int]
    events_by_type: dict[str, int]
    recent_events: int
    last_event_timestamp: datetime | None
    events_of_other_types: int | msgspec.UnsetType = msgspec.UNSET
    events_counted_without_type: int | msgspec.UnsetType = msgspec.UNSET


class Series(msgspec.Struct, frozen=True):
    """Counts of the events with one value (null: events without a value), one per bucket."""

    value: str | None
    counts: list[int]
    total: int


class Rest(msgspec.Struct, frozen=True):
    """Counts of the events with any other value, one per bucket."""

    counts: list[int]
    total: int


class Histogram(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Counts of the events in a time range, in buckets of `step_s` seconds that begin at `starts`.

    `partial`: the time limit was reached, so only events from `counted_from` on are counted.
    """

    since: datetime
    until: datetime
    step_s: int
    starts: list[datetime]
    series: list[Series]
    other: Rest
    total: int
    counted_from: datetime
    partial: bool


class FacetValue(msgspec.Struct, frozen=True):
    """The number of events with a value (null: events without a value)."""

    value: str | None
    n: int


class Facet(msgspec.Struct, frozen=True):
    """The most frequent values of a field, and the number of events with any other value.

    `partial`: for this field, only events from `counted_from` on are counted.
    """

    values: list[FacetValue]
    other: int
    partial: bool


class Facets(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """The most frequent values of the events in a time range, by field. `partial`: at least one field is partial."""

    since: datetime
    until: datetime
    total: int
    fields: dict[Literal["severity", "event_type", "source"], Facet]
    counted_from: datetime
    partial: bool


class Rejection(msgspec.Struct, frozen=True):
    """A rejected line. `index` is its position in the batch; null if it was sent as a single event.

    `idempotency_key` is that of the request, if it had one. `line` is the beginning of the line, `line_bytes` its full
    length; `line_base64` has the bytes if they are not valid UTF-8.
    """

    id: int
    received_at: datetime
    caller: str | None
    idempotency_key: str | None
    index: int | None
    code: str
    detail: str
    line: str
    line_bytes: int
    line_base64: bytes | msgspec.UnsetType = msgspec.UNSET


class Purged(msgspec.Struct, frozen=True):
    """The number of rejected lines that were deleted."""

    deleted: int


class EngineState(msgspec.Struct, frozen=True):
    """An embedded engine. `restarts` counts restarts after it died; `waits_for` says why it is not restarted yet."""

    name: str
    running: bool
    pid: int | None
    restarts: int
    waits_for: str | None = None


class FailingJob(msgspec.Struct, frozen=True):
    """A background job of this collector whose last run failed: since when, how often, and why the last time."""

    name: str
    since: datetime
    failures: int
    reason: str


class Health(msgspec.Struct, frozen=True):
    """`status` is `degraded` if the database or the cache is unavailable. The other fields require access.

    `unindexable_events` counts the events that could not be indexed, so that every search looks at them; null while it
    is unknown.
    """

    status: Literal["ok", "degraded"]
    version: str | msgspec.UnsetType = msgspec.UNSET
    database: State | msgspec.UnsetType = msgspec.UNSET
    cache: State | msgspec.UnsetType = msgspec.UNSET
    engines: list[EngineState] | msgspec.UnsetType = msgspec.UNSET
    failing_jobs: list[FailingJob] | msgspec.UnsetType = msgspec.UNSET
    unindexable_events: int | msgspec.UnsetType | None = msgspec.UNSET


class DatabaseHealth(msgspec.Struct, frozen=True):
    """Whether the database responds, and how long it took."""

    status: Literal["ok", "down"]
    latency_ms: float | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether this collector should receive traffic; `reasons` says why not."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]


class Liveness(msgspec.Struct, frozen=True):
    """The process responds."""

    status: Literal["alive"] = "alive"


class KeyCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key to create: a name for people, its scopes, and its life in seconds (by default unlimited)."""

    name: KeyName
    scopes: Annotated[list[KeyScope], Meta(min_length=1, max_length=4)]
    expires_in_s: Annotated[float, Meta(ge=1, le=10 * 366 * 86_400)] | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its secret. `last_used_at` is accurate to one minute."""

    id: int
    name: str
    prefix: str
    scopes: list[KeyScope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class SessionCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API key for a session of a browser."""

    key: Annotated[str, Meta(min_length=1, max_length=1_000)]


class Session(msgspec.Struct, frozen=True):
    """The caller and its scopes.

    `caller` is `key:<prefix>`, `bootstrap`, `open` if no API key is required, or null if one is required and missing.
    """

    caller: str | None
    scopes: list[KeyScope]
    needs_key: bool
    version: str


class KeyCreated(ApiKey, frozen=True, kw_only=True):
    """A newly created API key: `key` is its secret, which is shown only once."""

    key: str

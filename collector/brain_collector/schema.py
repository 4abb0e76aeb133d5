"""The structs of the HTTP API: what a request is decoded into and an answer encoded from. OpenAPI is made of these."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from brain_events.wire import EVENT_TYPE_MAX_CHARS, SOURCE_MAX_CHARS

Severity = Literal["info", "warning", "error", "critical"]
State = Literal["up", "down"]
KeyScope = Literal["ingest", "read", "write", "admin"]
"""What an API key may do; none implies another."""
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
"""One line as it looks: no control characters, none that turn text around."""
Details = Annotated[
    msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"], "description": "Any JSON object."})
]
"""Details stay JSON text from the socket to Postgres and back: they are never built as Python objects."""


class EventCreate(msgspec.Struct, gc=False):
    """An event as a client sends it. A `timestamp` without an offset is UTC; without one, it is the time of arrival."""

    event_type: EventType
    severity: Severity
    message: str
    details: Details = msgspec.field(default_factory=msgspec.Raw)
    source: Source | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


class EventUpdate(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A partial update: absent fields stay as they are.

    So that an event can be sent back as it was got: `id`, `created_at` and `matches` are ignored, `timestamp` must be
    the event's.
    """

    event_type: EventType | msgspec.UnsetType = msgspec.UNSET
    severity: Severity | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    details: Details | msgspec.UnsetType = msgspec.UNSET
    source: Source | msgspec.UnsetType | None = msgspec.UNSET
    timestamp: Annotated[datetime, Meta(tz=True)] | msgspec.UnsetType = msgspec.UNSET
    id: int | msgspec.UnsetType = msgspec.UNSET
    created_at: datetime | msgspec.UnsetType = msgspec.UNSET
    matches: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Match(msgspec.Struct, gc=False):
    """Where a search found what it looked for: characters `start` to before `end` of the text that `at` points to."""

    at: str
    start: int
    end: int


class Event(msgspec.Struct, gc=False):
    """An event as it is stored. `created_at` is the time of its commit's transaction; `matches` come with `q`."""

    id: int
    event_type: str
    severity: str
    message: str
    details: Details
    source: str | None
    timestamp: datetime
    created_at: datetime
    matches: list[Match] | msgspec.UnsetType = msgspec.UNSET


class Stats(msgspec.Struct, frozen=True):
    """Exact counts. `recent_events` are those of the last 24 hours."""

    total_events: int
    events_by_severity: dict[str, int]
    events_by_type: dict[str, int]
    recent_events: int
    last_event_timestamp: datetime | None


class Series(msgspec.Struct, frozen=True):
    """Counts of one value (null: the events that have none), one a bucket."""

    value: str | None
    counts: list[int]
    total: int


class Rest(msgspec.Struct, frozen=True):
    """Counts of all other values together, one a bucket."""

    counts: list[int]
    total: int


class Histogram(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Counts of the events between two moments, in buckets of `step_s` that begin at `starts`.

    `partial`: the time was spent, and only the events from `counted_from` on are counted.
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
    """How many events have a value (null: none)."""

    value: str | None
    n: int


class Facet(msgspec.Struct, frozen=True):
    """The most frequent values of a field, and how many events have another one.

    `partial`: of this field, only the events from `counted_from` on are counted.
    """

    values: list[FacetValue]
    other: int
    partial: bool


class Facets(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """The values of the events between two moments, by field. `partial`: of some field, only a part is counted."""

    since: datetime
    until: datetime
    total: int
    fields: dict[Literal["severity", "event_type", "source"], Facet]
    counted_from: datetime
    partial: bool


class Rejection(msgspec.Struct, frozen=True):
    """A line that was refused. `index` is its place in the batch under `idempotency_key`; null: it came alone.

    `line` is its beginning, `line_bytes` its whole length; `line_base64` has the bytes when they are no UTF-8.
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
    """How many refused lines are gone."""

    deleted: int


class EngineState(msgspec.Struct, frozen=True):
    """One embedded engine: `restarts` counts the times it died and came back; `waits_for` says why it does not yet."""

    name: str
    running: bool
    pid: int | None
    restarts: int
    waits_for: str | None = None


class Health(msgspec.Struct, frozen=True):
    """`status` is `ok`, or `degraded` when the database or the cache is away. The rest is for who has the key."""

    status: Literal["ok", "degraded"]
    version: str | msgspec.UnsetType = msgspec.UNSET
    database: State | msgspec.UnsetType = msgspec.UNSET
    cache: State | msgspec.UnsetType = msgspec.UNSET
    engines: list[EngineState] | msgspec.UnsetType = msgspec.UNSET


class DatabaseHealth(msgspec.Struct, frozen=True):
    """Whether the database answers, and how long it took."""

    status: Literal["ok", "down"]
    latency_ms: float | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether this collector should get traffic; `reasons` says why not."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]


class Liveness(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class KeyCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key that is wanted: a name for people, what it may do, and for how long."""

    name: KeyName
    scopes: Annotated[list[KeyScope], Meta(min_length=1, max_length=4)]
    expires_in_s: Annotated[float, Meta(ge=1, le=10 * 366 * 86_400)] | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its text. `last_used_at` is exact to a minute."""

    id: int
    name: str
    prefix: str
    scopes: list[KeyScope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class SessionCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API key that a browser's session is to have."""

    key: Annotated[str, Meta(min_length=1, max_length=1_000)]


class Session(msgspec.Struct, frozen=True):
    """Who asks: `key:<prefix>`, `bootstrap`, `open` where no key is needed, or null where one is, and is not there."""

    caller: str | None
    scopes: list[KeyScope]
    needs_key: bool
    version: str


class KeyCreated(ApiKey, frozen=True, kw_only=True):
    """An API key that was just made: `key` is its text, shown this once."""

    key: str

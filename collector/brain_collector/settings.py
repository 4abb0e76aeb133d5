"""The collector's settings: flags and environment variables, read once at the start into a frozen `Settings`."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from brain_collector.addresses import database_url, redis_url
from brain_collector.errors import SettingsError
from brain_events.wire import DETAILS_KEY_MAX_CHARS, DETAILS_MAX_DEPTH, DETAILS_MAX_KEYS, DETAILS_MAX_VALUES

ENV_PREFIX: Final = "BRAIN_COLLECTOR_"
ID_BLOCK: Final = 10_000
"""The size of the blocks in which event ids are drawn (the sequence's INCREMENT), so the maximum size of a batch."""

_LIST: Final = "`brain-events config show` and reference/configuration in the manual list all settings"

_Positive = Meta(gt=0)


def _help(*sentences: str) -> Meta:
    return Meta(description=" ".join(sentences))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its default. Each is read from `BRAIN_COLLECTOR_<NAME>`; `serve --help` lists the flags."""

    # Serving
    host: Annotated[str, _help("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), _help("Port to listen on; 0 picks a free one.")] = 8001
    allowed_hosts: Annotated[
        str,
        _help(
            "Host names that requests may address, comma-separated; `*` allows any.",
            "Requests for other names are refused with 400.",
        ),
    ] = ""

    # Access
    api_key: Annotated[
        str | None,
        _help(
            "The bootstrap API key. It has every scope and works while the database is unavailable.",
            "If the collector listens on an address other than loopback, it must have at least 16 characters.",
        ),
    ] = None
    api_key_file: Annotated[str | None, _help("File whose first line is the bootstrap API key.")] = None
    require_api_key: Annotated[
        bool,
        _help(
            "Require an API key even before the first one is created; this also permits listening on a public address."
        ),
    ] = False
    insecure: Annotated[bool, _help("Permit listening on a public address without an API key.")] = False
    max_api_keys: Annotated[
        int, _Positive, _help("Maximum number of live API keys; creating another is refused with 409.")
    ] = 1_000
    api_key_refresh_s: Annotated[
        float,
        _Positive,
        _help("Interval, in seconds, at which API keys are read from the database."),
    ] = 2.0
    session_life_days: Annotated[
        int,
        _Positive,
        _help("Time, in days, after which a browser session ends, and its user must log in again."),
    ] = 30
    api_key_grace_s: Annotated[
        float,
        _Positive,
        _help("Time, in seconds, for which API keys remain valid while the database is unavailable; then 503."),
    ] = 60.0

    # Storage and engines
    data_dir: Annotated[
        str | None,
        _help(
            "Directory for the data of the embedded engines: by default /var/lib/brain-events for root,",
            "otherwise brain-events under $XDG_DATA_HOME.",
        ),
    ] = None
    database_url: Annotated[
        str | None,
        _help(
            "URL of your own PostgreSQL database, as libpq accepts it; percent-encode the password.",
            "By default the collector runs an embedded PostgreSQL.",
        ),
    ] = None
    direct_url: Annotated[
        str | None,
        _help(
            "URL of the same database that bypasses a connection pooler such as PgBouncer. `migrate` and",
            "`doctor --deep` use it; they need a session of their own, which a pooler does not give.",
        ),
    ] = None
    pg_bin: Annotated[
        str | None,
        _help("Directory of the PostgreSQL programs to embed instead of those in the wheel."),
    ] = None
    pg_user: Annotated[
        str | None,
        _help("Unprivileged user that runs the embedded PostgreSQL when the collector is started as root."),
    ] = None
    writers: Annotated[int, _Positive, _help("Number of transactions that are written concurrently.")] = 3
    group_rows: Annotated[
        int,
        Meta(gt=0, le=ID_BLOCK),
        _help("Number of rows at which a transaction takes no further requests; they go into the next one."),
    ] = 4_000
    read_connections: Annotated[
        int,
        _Positive,
        _help("Number of database connections for queries and for changes of single events; further ones wait."),
    ] = 8
    idempotency_key_life_days: Annotated[
        int,
        Meta(ge=6),
        _help("Time, in days, for which an idempotency key is remembered; an older UUIDv7 is refused with 422."),
    ] = 14

    # Cache
    redis_url: Annotated[
        str | None,
        _help(
            "URL of your own Redis or Valkey (redis, rediss, valkey, valkeys or unix);",
            "`none` caches in the memory of this process.",
            "By default an embedded Valkey runs beside the embedded PostgreSQL.",
        ),
    ] = None
    event_ttl_s: Annotated[float, _Positive, _help("Time, in seconds, for which a single event is cached.")] = 300.0
    list_ttl_s: Annotated[float, _Positive, _help("Time, in seconds, for which a list is cached.")] = 60.0
    stats_ttl_s: Annotated[float, _Positive, _help("Time, in seconds, for which statistics are cached.")] = 30.0

    # Limits on requests
    max_body_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum size of a request body as transmitted, in bytes; larger ones are refused with 413."),
    ] = 8 * 2**20
    max_inflated_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum size of a request body after decompression, in bytes; larger ones are refused with 413."),
    ] = 8 * 2**20
    max_event_bytes: Annotated[
        int,
        _Positive,
        _help(
            "Maximum size of an event as JSON, in bytes, as it is sent and with its numbers written out without",
            "exponents; larger events are rejected.",
        ),
    ] = 256 * 2**10
    max_batch_events: Annotated[
        int,
        Meta(gt=0, le=ID_BLOCK),
        _help("Maximum number of events in a batch; larger batches are refused with 413."),
    ] = ID_BLOCK
    max_line_errors: Annotated[
        int,
        _Positive,
        _help("Maximum number of rejected events that the response to a batch lists; all of them are counted."),
    ] = 100
    max_details_depth: Annotated[
        int,
        _Positive,
        _help("Maximum depth of nesting in `details`; deeper events are rejected."),
    ] = DETAILS_MAX_DEPTH
    max_details_keys: Annotated[
        int,
        _Positive,
        _help("Maximum number of details keys of an event, on all levels together; events with more are rejected."),
    ] = DETAILS_MAX_KEYS
    max_details_values: Annotated[
        int,
        _Positive,
        _help(
            "Maximum number of values in `details`: strings, numbers, constants, objects and arrays, on all levels",
            "together; events with more are rejected.",
        ),
    ] = DETAILS_MAX_VALUES
    max_details_key_chars: Annotated[
        int,
        _Positive,
        _help("Maximum length of a details key, in characters; events with longer ones are rejected."),
    ] = DETAILS_KEY_MAX_CHARS
    max_pending_bytes: Annotated[
        int,
        _Positive,
        _help(
            "Maximum total size of the request bodies in progress, in bytes; decoded bodies count three times.",
            "Further requests wait.",
        ),
    ] = 128 * 2**20
    max_waiting_requests: Annotated[
        int,
        Meta(ge=0),
        _help("Maximum number of requests that wait for admission; further ones are refused with 503."),
    ] = 128
    caller_share: Annotated[
        float,
        Meta(gt=0, le=1),
        _help(
            "Part of a shared maximum (pending bytes, waiting requests, database connections for reads, exports,",
            "streams) that one caller may hold, out of what the other callers leave; beyond it, requests wait or get",
            "503. 1: no limit per caller.",
            "If no API key is required, there are no shares.",
        ),
    ] = 0.5
    admission_wait_s: Annotated[
        float,
        Meta(gt=0, le=5),
        _help(
            "Maximum time, in seconds, that a request waits for admission; then it is refused with 503.",
            "Other responses to overload (503, 429) are delayed by up to the same time.",
        ),
    ] = 2.0

    # Limits on queries
    max_list_limit: Annotated[
        int,
        _Positive,
        _help("Maximum `limit` of a list; larger values are refused with 422."),
    ] = 1_000
    max_list_offset: Annotated[
        int,
        _Positive,
        _help("Maximum `offset` of a list; larger values are refused with 422: use the cursor instead."),
    ] = 10_000
    max_page_bytes: Annotated[
        int,
        _Positive,
        _help(
            "Maximum size of a page of a list, in bytes; a page ends there even if it has fewer events than `limit`."
        ),
    ] = 4 * 2**20
    max_answer_bytes: Annotated[
        int,
        _Positive,
        _help(
            "Maximum total size of the responses to reads in progress, in bytes; a page counts four times while it is",
            "made, and once until its client has read it. Further reads wait, then get 503.",
        ),
    ] = 128 * 2**20
    max_filter_values: Annotated[
        int,
        _Positive,
        _help(
            "Maximum number of values of `event_type`, and of filters on `details`, in a query;",
            "more are refused with 422.",
        ),
    ] = 10
    max_histogram_buckets: Annotated[
        int,
        _Positive,
        _help("Maximum number of buckets in a histogram; more are refused with 422."),
    ] = 1_000
    max_stats_types: Annotated[
        int,
        Meta(gt=0, le=3_000),
        _help("Maximum number of types that statistics list, the most frequent first; the others are added up."),
    ] = 1_000
    max_export_events: Annotated[
        int,
        _Positive,
        _help("Maximum number of events in one export request; resume with `after`."),
    ] = 1_000_000
    max_exports: Annotated[
        int,
        Meta(ge=0),
        _help("Maximum number of concurrent exports; further ones are refused with 503."),
    ] = 4

    # Streams
    max_streams: Annotated[
        int,
        Meta(ge=0),
        _help(
            "Maximum number of open event streams, SSE and WebSocket together; further ones are refused with 503.",
        ),
    ] = 100
    max_stream_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum amount of data that waits for a stream's client, in bytes; beyond it the stream sends a `gap`."),
    ] = 2**20
    max_stream_lag: Annotated[
        int,
        _Positive,
        _help("Maximum number of events that a stream may lag behind; beyond it the stream sends a `gap`."),
    ] = 20_000
    stream_poll_s: Annotated[float, _Positive, _help("Interval, in seconds, at which streams look for new events.")] = (
        0.1
    )
    stream_heartbeat_s: Annotated[
        float,
        _Positive,
        _help("Time, in seconds, without events after which a stream sends a heartbeat."),
    ] = 15.0

    # Rejected lines
    max_rejected_lines: Annotated[
        int,
        Meta(ge=0),
        _help("Maximum number of rejected lines kept; beyond it the oldest are removed. 0 keeps none."),
    ] = 10_000
    max_rejected_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum total size of the rejected lines kept, in bytes; beyond it the oldest are removed."),
    ] = 64 * 2**20
    max_rejected_line_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum number of bytes kept of a rejected line; the rest is cut off."),
    ] = 16 * 2**10
    rejected_life_days: Annotated[
        int,
        _Positive,
        _help("Time, in days, for which rejected lines are kept."),
    ] = 7

    # Connections
    max_connections: Annotated[
        int,
        Meta(ge=0),
        _help(
            "Maximum number of client connections; beyond it, an idle one is closed, or one whose body is arriving;",
            "if there is none, requests get 503.",
            "0: as many as `ulimit -n` permits, at most 4096.",
        ),
    ] = 0
    max_head_bytes: Annotated[
        int,
        _Positive,
        _help("Maximum size of the request line and headers together, in bytes; larger ones are refused with 431."),
    ] = 64 * 2**10
    max_arriving_head_bytes: Annotated[
        int,
        _Positive,
        _help(
            "Maximum size of all request heads that arrive in parts, in bytes; beyond it, the connections whose heads",
            "have been arriving for the longest time are closed. It is at least `MAX_HEAD_BYTES`.",
        ),
    ] = 16 * 2**20
    max_headers: Annotated[
        int,
        _Positive,
        _help("Maximum number of headers in a request; more are refused with 431."),
    ] = 100
    keep_alive_s: Annotated[
        int,
        _Positive,
        _help("Time, in seconds, for which a connection without a request stays open."),
    ] = 75

    # Rate limits
    max_events_per_s: Annotated[
        float,
        Meta(ge=0),
        _help("Number of events per second that one API key may send; beyond it 429. 0: unlimited."),
    ] = 0.0
    max_bytes_per_s: Annotated[
        float,
        Meta(ge=0),
        _help(
            "Number of bytes per second, after decompression, that one API key may send; beyond it 429.",
            "0: unlimited.",
        ),
    ] = 0.0
    burst_s: Annotated[
        float,
        _Positive,
        _help("Capacity of the rate limits, in seconds: an idle API key may send this many seconds' worth at once."),
    ] = 10.0

    # Deadlines
    head_deadline_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, in which a client must send the request line and headers; then 408."),
    ] = 10.0
    body_deadline_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, in which a client must send the body; then 408."),
    ] = 30.0
    body_stall_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, in which a body must make 32 KiB of progress, or end; then 408."),
    ] = 5.0
    answer_deadline_s: Annotated[
        float,
        _Positive,
        _help(
            "Maximum time, in seconds, for which a client may leave a response unread; then the connection is closed.",
        ),
    ] = 60.0
    write_deadline_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, that a request waits for its commit; then 503."),
    ] = 10.0
    read_deadline_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, that a query may take; then it is cancelled and refused with 422."),
    ] = 5.0
    connect_deadline_s: Annotated[
        float,
        _Positive,
        _help(
            "Maximum time, in seconds, to wait for a database connection; then 503. If the address names several",
            "hosts, each has an equal part of it to respond.",
        ),
    ] = 3.0
    internal_deadline_s: Annotated[
        float,
        _Positive,
        _help(
            "Maximum time, in seconds, that a small statement of the collector's own may take: to read or change API",
            "keys and sessions (then 503), to check the database, or to store rejected lines.",
        ),
    ] = 3.0
    lock_deadline_s: Annotated[
        float,
        _Positive,
        _help("Maximum time, in seconds, that a statement waits for a database lock; then it fails."),
    ] = 2.0
    cache_deadline_s: Annotated[
        float,
        _Positive,
        _help(
            "Maximum time, in seconds, to wait for Redis; then requests go to the database until Redis responds again."
        ),
    ] = 0.04
    retry_after_s: Annotated[int, _Positive, _help("Value, in seconds, of `Retry-After` in responses with 503.")] = 2

    # Shutdown
    shutdown_delay_s: Annotated[
        float,
        Meta(ge=0),
        _help(
            "Time, in seconds, for which the collector still serves after SIGTERM while `/readyz` reports it as not",
            "ready, so that load balancers stop using it first.",
        ),
    ] = 0.0
    drain_s: Annotated[
        int,
        _Positive,
        _help("Maximum time, in seconds, to wait for open requests at shutdown; the rest get 503 or are cut off."),
    ] = 2

    # Migrations
    migrate_lock_s: Annotated[
        float,
        _Positive,
        _help(
            "Maximum time, in seconds, that a migration waits for a lock; other statements queue behind it meanwhile."
        ),
    ] = 1.0
    migrate_attempts: Annotated[
        int,
        _Positive,
        _help("Maximum number of attempts to acquire the locks of a migration; then it fails."),
    ] = 30

    # Background work
    fold_interval_s: Annotated[
        float,
        _Positive,
        _help("Interval, in seconds, at which the journal of counts is folded into the counts."),
    ] = 2.0
    max_types_per_day: Annotated[
        int,
        _Positive,
        _help(
            "Maximum number of types whose events are counted by name on one day; events of further types are counted",
            "together.",
        ),
    ] = 1_000
    maintain_interval_s: Annotated[
        float,
        _Positive,
        _help(
            "Interval, in seconds, at which partitions are created, and old idempotency keys and rejected lines are",
            "deleted.",
        ),
    ] = 600.0
    days_ahead: Annotated[
        int,
        Meta(ge=2),
        _help("Number of days after today for which partitions are created in advance."),
    ] = 7
    health_interval_s: Annotated[
        float,
        _Positive,
        _help("Interval, in seconds, at which repeated health checks are recorded as one event."),
    ] = 60.0
    canary_interval_s: Annotated[
        float,
        _Positive,
        _help("Interval, in seconds, at which the collector reads back its own health checks."),
    ] = 60.0

    # Logging
    log_format: Annotated[
        Literal["auto", "json", "text"],
        _help("Format of the log on stderr; `auto` is text on a terminal, otherwise JSON."),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        _help("Minimum level of log records; `info` includes a record per request."),
    ] = "warning"

    @property
    def dsn(self) -> str:
        """The address of the database for asyncpg; known once it is configured or the embedded database runs.

        Raises:
            SettingsError: there is no database yet.
        """
        if self.database_url is None:
            raise SettingsError(
                "no database is configured: set --database-url, or run `brain-events serve`, which embeds one"
            )
        return _for_driver(self.database_url)

    @property
    def session_dsn(self) -> str:
        """The address of the database for tasks that need a session of their own: `direct_url`, or else `dsn`."""
        return self.dsn if self.direct_url is None else _for_driver(self.direct_url)

    @property
    def hosts(self) -> frozenset[str]:
        """The allowed host names, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())


def _for_driver(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Return the settings. Flags that are not None take precedence over `environ`, and `environ` over the defaults.

    Raises:
        SettingsError: a value has the wrong type or is out of range, or a variable is not a setting.
    """
    values: dict[str, Any] = {"data_dir": _default_data_dir(environ)}
    origins: dict[str, str] = {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and text:
            field = name.removeprefix(ENV_PREFIX).lower()
            if field not in Settings.__struct_fields__:
                raise SettingsError(f"{name} is not a setting{_suggestion(field)}; {_LIST}")
            values[field], origins[field] = _convert(field, text, name), name
    for field, value in flags.items():
        if value is not None:
            name = f"--{field.replace('_', '-')}"
            values[field], origins[field] = _convert(field, value, name), name
    values["data_dir"] = str(Path(values["data_dir"]).expanduser().absolute())
    settings = Settings(**values)
    if settings.database_url is not None:
        database_url.connect_arguments(settings.database_url, name=origins["database_url"])
    if settings.direct_url is not None:
        if settings.database_url is None:
            raise SettingsError(
                f"{origins['direct_url']} bypasses the pooler of --database-url, which is not set: set both"
            )
        database_url.connect_arguments(settings.direct_url, name=origins["direct_url"])
    if settings.redis_url not in {None, "none"}:
        redis_url.connection_url(str(settings.redis_url), name=origins["redis_url"])
    return _with_api_key(settings)


def _suggestion(field: str) -> str:
    close = difflib.get_close_matches(field, Settings.__struct_fields__, n=1)
    return f"; did you mean {ENV_PREFIX}{close[0].upper()}?" if close else ""


def _convert(field: str, value: Any, name: str) -> Any:
    try:
        return getattr(msgspec.convert({field: value}, Settings, strict=False), field)
    except msgspec.ValidationError:
        raise SettingsError(f"{name} is {value!r}, must be {_valid_values(field)}") from None


def _valid_values(field: str) -> str:
    """Describe the valid values of a setting, from its type and its limits."""
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"][field]
    if "enum" in schema:
        return " or ".join(schema["enum"])
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    limits = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}"}
    bounds = [text.format(schema[name]) for name, text in limits.items() if name in schema]
    return " ".join([kinds.get(schema.get("type", "string"), "text"), *bounds])


def _default_data_dir(environ: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/lib/brain-events"
    return f"{environ.get('XDG_DATA_HOME') or '~/.local/share'}/brain-events"


def _with_api_key(settings: Settings) -> Settings:
    if settings.api_key is not None:
        _check_api_key(settings.api_key, f"{ENV_PREFIX}API_KEY")
        return settings
    if settings.api_key_file is None:
        return settings
    origin = f"--api-key-file {settings.api_key_file}"
    try:
        key = Path(settings.api_key_file).expanduser().read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        raise SettingsError(f"{origin}: {error.strerror}; name a file that can be read") from None
    if not key:
        raise SettingsError(f"{origin}: its first line is empty; write the API key there")
    _check_api_key(key, origin)
    return msgspec.structs.replace(settings, api_key=key)


def _check_api_key(key: str, origin: str) -> None:
    """Refuse an API key that no header can carry: other characters have no agreed encoding there."""
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(f"{origin}: an API key must be one or more printable ASCII characters without spaces")

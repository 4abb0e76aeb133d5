"""Settings: make one frozen `Config` of arguments and environment variables."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from brain_events.errors import ConfigError
from brain_events.wire import Event

DEFAULT_MAX_EVENT_BYTES = 64 * 1024
DEFAULT_MAX_BUFFER_BYTES = 64 * 1024 * 1024
DEFAULT_INTERVAL_S = 0.5
DEFAULT_REQUEST_TIMEOUT_S = 10.0
DEFAULT_SPOOL_DIR = "$XDG_STATE_HOME/brain-events"
DEFAULT_SPOOL_MAX_BYTES = 512 * 1024 * 1024
DEFAULT_JOURNAL_DIR = "/dev/shm"  # noqa: S108 -- the directory that is created there is checked
DEFAULT_JOURNAL_MAX_BYTES = 64 * 1024 * 1024

MIN_JOURNAL_BYTES = 1024 * 1024
"""Two parts of the journal, and a little more."""

_SIZES = {"spool_max_bytes": "bytes"}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a `Client`.

    Raises:
        ConfigError: A value cannot be used.
    """

    url: str
    """The collector's address, such as `https://events.example.com`; a path prefix is kept."""
    api_key: str | None = None
    """The collector's API key, sent as `Authorization: Bearer`; `repr` does not show it."""
    source: str | None = None
    """The `source` of events without one, such as the name of the service; at most 100 characters."""
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES
    """Maximum size of an encoded event, in bytes; a larger event is truncated and marked."""
    max_buffer_bytes: int = DEFAULT_MAX_BUFFER_BYTES
    """Maximum size of the encoded events in memory, in bytes. The last fifth is reserved for `error` and `critical`."""
    allowed_keys: frozenset[str] = frozenset()
    """Details keys that look like the name of a secret but are not; their values are kept. Case matters."""
    add_where: bool = True
    """Add `where` to the details of an exception: file and function of the innermost frame of the application."""
    limits: Mapping[str, tuple[float, float]] = {}
    """Limits for noisy event types: by type, how many events may be logged at once, and how many per second after that.
    Events of `error` and `critical` are not limited; the others are counted as `limited`, and reported once a minute.
    `{"http_request": (50, 1.0)}` means 50, then one a second."""
    before_send: Callable[[Event], Event | None] | None = None
    """Called with each event before it is kept; returns the event to send, or None to drop it. If it raises, the event
    is dropped."""
    interval_s: float = DEFAULT_INTERVAL_S
    """Maximum time that an event waits for its batch to fill, in seconds."""
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S
    """Maximum time for one request, response included, in seconds."""
    ca_bundle: str | None = None
    """A file of CA certificates (PEM) to trust instead of the system's."""
    proxy: str | None = None
    """The HTTP proxy to use, such as `http://proxy:3128`; `init` reads it from the environment."""
    spool_dir: str | None = DEFAULT_SPOOL_DIR
    """The directory of the outbox, for batches that cannot be delivered now; it is created when it is first needed.
    It must belong to this user, and nobody else may be able to write to it: others could plant links in it.
    Without XDG_STATE_HOME the default is `~/.local/state/brain-events` of this user, also for root. None means no
    outbox."""
    spool_max_bytes: int = DEFAULT_SPOOL_MAX_BYTES
    """Maximum size of this process's part of the outbox, in bytes; beyond it events stay in memory."""
    journal_dir: str | None = DEFAULT_JOURNAL_DIR
    """The directory of the journal, into which each event is written before `log` returns, so that `kill -9` does not
    lose it while the machine runs. It must be on tmpfs. The default is `/dev/shm`, or else XDG_RUNTIME_DIR. None, or no
    `spool_dir`, means no journal."""
    journal_max_bytes: int = DEFAULT_JOURNAL_MAX_BYTES
    """Maximum size of this process's journal, in bytes; events that exceed it are kept in the process only."""
    durable: bool = False
    """Write each event to disk instead, before `log` returns, so that a restart of the machine does not lose it."""
    fsync: bool = False
    """Wait until the storage device has each write, so that a power loss does not lose it. Slow."""
    retry_base_s: float = 0.5
    """Base of the back-off, in seconds; retry n waits a random time up to `retry_base_s * 2**n` (full jitter)."""
    retry_cap_s: float = 30.0
    """Maximum of that wait, in seconds; a Retry-After header may ask for more."""
    probe_interval_s: float = 60.0
    """Interval between attempts, in seconds, while the collector refuses requests, as with a wrong API key or a proxy's
    page."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        if self.api_key is not None and not isinstance(self.api_key, str):
            raise ConfigError(f"api_key is of the type {type(self.api_key).__name__}; use str")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(
                "api_key contains characters that an HTTP header cannot carry; check for a line break at its end"
            )
        if self.max_event_bytes < 1024:
            raise ConfigError(f"max_event_bytes is {self.max_event_bytes}; use 1024 or more")
        if self.max_buffer_bytes < self.max_event_bytes:
            raise ConfigError(f"max_buffer_bytes is {self.max_buffer_bytes}; use max_event_bytes or more")
        if not isinstance(self.allowed_keys, frozenset):
            raise ConfigError(f"allowed_keys is {self.allowed_keys!r}; use a frozenset of names")
        for event_type, limit in self.limits.items():
            _check_limit(event_type, limit)
        if self.before_send is not None and not callable(self.before_send):
            raise ConfigError(f"before_send is {self.before_send!r}; use a function that takes and returns an event")
        self._check_delivery()

    def _check_delivery(self) -> None:
        if self.durable and self.outbox_dir() is None:
            raise ConfigError("durable needs a spool_dir, the directory of the outbox")
        if self.proxy is not None and urlsplit(self.proxy).scheme not in {"http", "https"}:
            raise ConfigError("proxy is not the address of an HTTP proxy; use one such as http://proxy:3128")
        if self.journal_max_bytes < MIN_JOURNAL_BYTES:
            raise ConfigError(f"journal_max_bytes is {self.journal_max_bytes}; use {MIN_JOURNAL_BYTES} or more")
        for name in ("interval_s", "request_timeout_s", "retry_base_s", "retry_cap_s", "probe_interval_s", *_SIZES):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; use {_SIZES.get(name, 'seconds')} above 0")

    def __repr__(self) -> str:
        return f"Config(url={self.url!r}, source={self.source!r})"

    def outbox_dir(self) -> Path | None:
        """Return the absolute path of `spool_dir`; None without an outbox, or if the user has no home directory."""
        if self.spool_dir is None:
            return None
        if self.spool_dir == DEFAULT_SPOOL_DIR:
            return _state_dir(os.environ)
        return Path(self.spool_dir).expanduser().absolute()

    def journal_dirs(self) -> list[str]:
        """Return the directories that may hold the journal, the preferred one first; none in another mode."""
        if self.durable or self.spool_dir is None or self.journal_dir is None:
            return []
        runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
        if self.journal_dir == DEFAULT_JOURNAL_DIR and runtime_dir.startswith("/"):
            return [self.journal_dir, runtime_dir]
        return [self.journal_dir]


def load(
    environ: Mapping[str, str],
    *,
    url: str | None,
    api_key: str | None,
    source: str | None,
    ca_bundle: str | None = None,
    spool_dir: str | os.PathLike[str] | None = DEFAULT_SPOOL_DIR,
    journal_dir: str | os.PathLike[str] | None = DEFAULT_JOURNAL_DIR,
    durable: bool | None = None,
    fsync: bool | None = None,
    **rest: Any,
) -> Config | None:
    """Return the settings, or None if no URL is known. An argument overrides `BRAIN_EVENTS_<NAME>`."""
    url = url or environ.get("BRAIN_EVENTS_URL")
    if not url:
        return None
    return Config(
        url=url,
        api_key=api_key or environ.get("BRAIN_EVENTS_API_KEY") or None,
        source=source or environ.get("BRAIN_EVENTS_SOURCE") or None,
        proxy=_proxy(url),
        ca_bundle=ca_bundle or environ.get("BRAIN_EVENTS_CA_BUNDLE") or None,
        spool_dir=_directory(spool_dir, DEFAULT_SPOOL_DIR, "BRAIN_EVENTS_SPOOL_DIR", environ),
        journal_dir=_directory(journal_dir, DEFAULT_JOURNAL_DIR, "BRAIN_EVENTS_JOURNAL_DIR", environ),
        durable=_flag(durable, "BRAIN_EVENTS_DURABLE", environ),
        fsync=_flag(fsync, "BRAIN_EVENTS_FSYNC", environ),
        **rest,
    )


def _proxy(url: str) -> str | None:
    """Return the proxy for `url` by HTTP_PROXY, HTTPS_PROXY and NO_PROXY; loopback addresses use none."""
    if not any(name.lower() in {"http_proxy", "https_proxy"} for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415 -- few applications need it

    try:
        parts = urlsplit(url)
        proxy = getproxies_environment().get(parts.scheme)
        host = parts.hostname or ""
    except ValueError:  # `Config` reports the malformed address
        return None
    if not proxy or host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _directory(
    argument: str | os.PathLike[str] | None, default: str, name: str, environ: Mapping[str, str]
) -> str | None:
    if argument is None:
        return None
    if os.fspath(argument) != default:
        return os.fspath(argument)
    variable = environ.get(name, default)
    return None if variable.lower() in {"", "none"} else variable


def _state_dir(environ: Mapping[str, str]) -> Path | None:
    """Return the default directory by the XDG Base Directory Specification, by which relative paths are ignored."""
    base = environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()) / "brain-events"
    except RuntimeError:  # a user without a home directory
        return None


def captures_uncaught(argument: bool | None, environ: Mapping[str, str]) -> bool:  # noqa: FBT001 -- as in `load`
    """Return whether uncaught exceptions are logged: by the argument, the environment, or the default."""
    return _flag(argument, "BRAIN_EVENTS_CAPTURE_UNCAUGHT", environ, default=True)


def inits_children(environ: Mapping[str, str]) -> bool:
    """Return whether a child of `multiprocessing` without an `init` of its own calls it at its first event."""
    return bool(environ.get("BRAIN_EVENTS_URL")) and _flag(None, "BRAIN_EVENTS_INIT_CHILDREN", environ, default=True)


def _flag(argument: bool | None, name: str, environ: Mapping[str, str], *, default: bool = False) -> bool:  # noqa: FBT001 -- as above
    """Return the argument, or else what the environment variable says, or else the default."""
    if argument is not None:
        return argument
    text = environ.get(name, "").strip().lower()
    if not text:
        return default
    if text not in {"0", "1", "false", "true", "no", "yes", "off", "on"}:
        raise ConfigError(f"{name} is {text!r}; use 1 or 0")
    return text in {"1", "true", "yes", "on"}


def _check_limit(event_type: Any, limit: Any) -> None:
    try:
        capacity, per_s = limit
        is_usable = isinstance(event_type, str) and capacity >= 1 and per_s > 0
    except (TypeError, ValueError):
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"limits has {event_type!r}: {limit!r}; use an event type, and a pair of at least 1 event at once and more "
            "than 0 per second, such as {'http_request': (50, 1.0)}"
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if "@" in (parts.netloc if usable else url):  # not quoted: it may be a secret
        raise ConfigError("url contains a user name or password; pass the API key as api_key")
    if not usable:
        shown = re.sub(r"(//[^/]*?):[^/]*", r"\1:***", url)  # in place of a port may be a password
        raise ConfigError(f"url is {shown!r}; use the collector's address, such as http://127.0.0.1:8001")

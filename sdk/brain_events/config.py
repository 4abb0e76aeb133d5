"""Settings: arguments and the environment come in, one frozen `Config` goes out."""

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

_SIZES = {"spool_max_bytes": "bytes"}


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Client` can be told. Raises `ConfigError` for a value that cannot work."""

    url: str
    """Where the collector listens, such as `https://events.example.com`; a path prefix is kept."""
    api_key: str | None = None
    """Sent as `Authorization: Bearer`; never shown by `repr`."""
    source: str | None = None
    """The `source` of every event that names none, such as the service's name; at most 100 characters."""
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES
    """Longest encoded event; a longer one is truncated, with a marker."""
    max_buffer_bytes: int = DEFAULT_MAX_BUFFER_BYTES
    """Most encoded bytes held in memory; the last fifth is kept for `error` and `critical`."""
    allowed_keys: frozenset[str] = frozenset()
    """Names whose values are no secrets, though they look like it; exactly as they are written."""
    before_send: Callable[[Event], Event | None] | None = None
    """Sees every event before it is kept; returns what to send, or None; if it raises, the event is dropped."""
    interval_s: float = DEFAULT_INTERVAL_S
    """Longest time an event waits for its batch to fill."""
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S
    """Wall-clock limit for one request's answer."""
    ca_bundle: str | None = None
    """A file of certificates (PEM) to trust in place of the system's."""
    proxy: str | None = None
    """The HTTP proxy to go through, such as `http://proxy:3128`; `init` takes it from the environment."""
    spool_dir: str | None = DEFAULT_SPOOL_DIR
    """Where batches wait that cannot be delivered (see `_outbox`), made when the first one does; None: nowhere.
    The default is this user's `~/.local/state/brain-events` where XDG_STATE_HOME is not set, for root too."""
    spool_max_bytes: int = DEFAULT_SPOOL_MAX_BYTES
    """Most bytes of this process on disk; past it events stay in memory."""
    durable: bool = False
    """Write each event to the disk before `log` returns: then not even `kill -9` loses it."""
    fsync: bool = False
    """Wait until it is on the medium: then not even a power loss does. Slow."""
    retry_base_s: float = 0.5
    """Back-off: the n-th retry waits at random up to `retry_base_s * 2**n` (full jitter) ..."""
    retry_cap_s: float = 30.0
    """... and never longer than this, unless Retry-After asks for it."""
    probe_interval_s: float = 60.0
    """How often a collector that refuses us (a wrong key, a proxy's page) is asked again."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(
                "api_key holds characters that no HTTP header can carry; check for a line break at its end"
            )
        if self.max_event_bytes < 1024:
            raise ConfigError(f"max_event_bytes is {self.max_event_bytes}; use 1024 or more")
        if self.max_buffer_bytes < self.max_event_bytes:
            raise ConfigError(f"max_buffer_bytes is {self.max_buffer_bytes}; use max_event_bytes or more")
        if not isinstance(self.allowed_keys, frozenset):
            raise ConfigError(f"allowed_keys is {self.allowed_keys!r}; use a frozenset of names")
        if self.before_send is not None and not callable(self.before_send):
            raise ConfigError(f"before_send is {self.before_send!r}; use a function that takes and returns an event")
        self._check_delivery()

    def _check_delivery(self) -> None:
        if self.durable and self.outbox_dir() is None:
            raise ConfigError("durable needs a spool_dir to write to")
        if self.proxy is not None and urlsplit(self.proxy).scheme not in {"http", "https"}:
            raise ConfigError("proxy is no HTTP proxy; use an address such as http://proxy:3128")
        for name in ("interval_s", "request_timeout_s", "retry_base_s", "retry_cap_s", "probe_interval_s", *_SIZES):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; use {_SIZES.get(name, 'seconds')} above 0")

    def __repr__(self) -> str:
        return f"Config(url={self.url!r}, source={self.source!r})"

    def outbox_dir(self) -> Path | None:
        """Return the absolute `spool_dir`; None if there is to be none, or no home to put it in."""
        if self.spool_dir is None:
            return None
        if self.spool_dir == DEFAULT_SPOOL_DIR:
            return _state_dir(os.environ)
        return Path(self.spool_dir).expanduser().absolute()


def load(
    environ: Mapping[str, str],
    *,
    url: str | None,
    api_key: str | None,
    source: str | None,
    ca_bundle: str | None = None,
    spool_dir: str | os.PathLike[str] | None = DEFAULT_SPOOL_DIR,
    durable: bool | None = None,
    fsync: bool | None = None,
    **rest: Any,
) -> Config | None:
    """Return the settings; an argument wins over `BRAIN_EVENTS_<NAME>`. None: no URL is known."""
    url = url or environ.get("BRAIN_EVENTS_URL")
    if not url:
        return None
    return Config(
        url=url,
        api_key=api_key or environ.get("BRAIN_EVENTS_API_KEY") or None,
        source=source or environ.get("BRAIN_EVENTS_SOURCE") or None,
        proxy=_proxy(url),
        ca_bundle=ca_bundle or environ.get("BRAIN_EVENTS_CA_BUNDLE") or None,
        spool_dir=_spool_dir(spool_dir, environ),
        durable=_flag(durable, "BRAIN_EVENTS_DURABLE", environ),
        fsync=_flag(fsync, "BRAIN_EVENTS_FSYNC", environ),
        **rest,
    )


def _proxy(url: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`; never one to this machine itself."""
    if not any(name.lower() in {"http_proxy", "https_proxy"} for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415 -- few need it

    try:
        parts = urlsplit(url)
        proxy = getproxies_environment().get(parts.scheme)
        host = parts.hostname or ""
    except ValueError:  # Config says what is wrong with the address
        return None
    if not proxy or host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _spool_dir(given: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    if given is None:
        return None
    if os.fspath(given) != DEFAULT_SPOOL_DIR:
        return os.fspath(given)
    named = environ.get("BRAIN_EVENTS_SPOOL_DIR", DEFAULT_SPOOL_DIR)
    return None if named.lower() in {"", "none"} else named


def _state_dir(environ: Mapping[str, str]) -> Path | None:
    """Return our directory by the XDG Base Directory Specification, which has relative paths ignored."""
    base = environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()) / "brain-events"
    except RuntimeError:  # a user without a home
        return None


def _flag(given: bool | None, name: str, environ: Mapping[str, str]) -> bool:  # noqa: FBT001 -- as in the signature
    if given is not None:
        return given
    text = environ.get(name, "").strip().lower()
    if text not in {"", "0", "1", "false", "true", "no", "yes", "off", "on"}:
        raise ConfigError(f"{name} is {text!r}; use 1 or 0")
    return text in {"1", "true", "yes", "on"}


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        shown = re.sub(r"//[^/@]*@", "//", url)  # without a password
        raise ConfigError(f"url is {shown!r}; give the collector's address, such as http://127.0.0.1:8001")
    if "@" in parts.netloc:
        raise ConfigError("url holds a user name or password; give the key as api_key")

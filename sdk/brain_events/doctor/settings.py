"""The doctor's check of the settings: make a `Config` of flags and environment, with the origin of each value."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from brain_events._record.secret_shapes import scrub_text
from brain_events.config import Config, captures_uncaught, inits_children, load
from brain_events.doctor.finding import Finding
from brain_events.errors import ConfigError

FROM_ENVIRONMENT: Final = (
    "url", "api_key", "source", "ca_bundle", "spool_dir", "journal_dir", "durable", "fsync", "capture_uncaught",
    "init_children"
)  # fmt: skip
"""The settings that `BRAIN_EVENTS_<NAME>` can set."""

UNKNOWN_URL: Final = "http://unknown.invalid"
_URL_USER_INFO = re.compile(r"://.*@", re.DOTALL)
_USER_INFO = re.compile(r"[^\s/'\"]+@")


class Setting(msgspec.Struct, frozen=True):
    """A value without secrets, and its origin."""

    value: Any
    origin: str


class Settings(msgspec.Struct, frozen=True):
    """The settings that `init()` would use here. `config` is None if they are invalid."""

    config: Config | None
    url_known: bool
    shown: dict[str, Setting]
    findings: list[Finding]


def read(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Settings:
    """Return the settings of an application in this environment; `flags` override it as the arguments of `init` do."""
    arguments = {name: value for name, value in flags.items() if value is not None}
    findings = list(_unknown_names(environ))
    url_known = bool(arguments.get("url") or environ.get("BRAIN_EVENTS_URL"))
    if not url_known:
        do = "set BRAIN_EVENTS_URL, or pass a url to init(); --url checks one"
        findings.append(Finding("settings", "wrong", "no url is set: nothing is sent", do=do))
    settings: dict[str, Any] = {"url": None, "api_key": None, "source": None} | arguments
    if settings.get("spool_dir") == "none":
        settings["spool_dir"] = None
    settings["url"] = settings["url"] or environ.get("BRAIN_EVENTS_URL") or UNKNOWN_URL
    config = None
    try:
        config = load(environ, **settings)
        captures_uncaught(None, environ)
        inits_children(environ)
        findings.append(Finding("settings", "ok", "the settings are valid"))
    except ConfigError as error:
        do = "init() raises ConfigError with these settings: correct them"
        findings.append(Finding("settings", "wrong", without_secrets(str(error)), do=do))
    shown = {} if config is None else dict(_shown(config, environ, arguments, url_known=url_known))
    return Settings(config, url_known, shown, findings)


def without_secrets(text: str) -> str:
    """Return `text` without anything that looks like a secret, including `user:password@host` without a scheme."""
    return _USER_INFO.sub("[scrubbed]@", scrub_text(text, frozenset()))


def _unknown_names(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = [f"BRAIN_EVENTS_{name.upper()}" for name in FROM_ENVIRONMENT]
    for name in sorted(environ):
        if name.startswith("BRAIN_EVENTS_") and name not in known:
            close = get_close_matches(name, known, 1)
            do = f"did you mean {close[0]}?" if close else f"the SDK reads {', '.join(known)}"
            yield Finding("settings", "wrong", f"{name} is set, but the SDK has no such setting", name, do)


def _shown(
    config: Config, environ: Mapping[str, str], arguments: Mapping[str, str], *, url_known: bool
) -> Iterator[tuple[str, Setting]]:
    for name in Config.__struct_fields__:
        value = getattr(config, name)
        if name == "url" and not url_known:
            value = None
        yield name, Setting(_safe(name, value, config), _origin(name, environ, arguments, value))


def _safe(name: str, value: Any, config: Config) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name == "api_key":
        return "(set, not shown)"
    if name == "spool_dir":
        return str(config.outbox_dir())
    if isinstance(value, frozenset):
        return sorted(value)
    return without_secrets(_URL_USER_INFO.sub("://[scrubbed]@", str(value)))


def _origin(name: str, environ: Mapping[str, str], arguments: Mapping[str, str], value: Any) -> str:
    variable = f"BRAIN_EVENTS_{name.upper()}"
    if name in arguments:
        return f"flag --{name.replace('_', '-')}"
    if name in FROM_ENVIRONMENT and environ.get(variable):
        return f"environment variable {variable}"
    if name == "proxy" and value is not None:
        return "environment variable HTTP_PROXY or HTTPS_PROXY"
    return "not set" if value is None else "default"

"""The doctor's look at the settings: flags and environment come in, a `Config` and each value's origin go out."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from brain_events._record.secret_shapes import scrub_text
from brain_events.config import Config, load
from brain_events.doctor.finding import Finding
from brain_events.errors import ConfigError

FROM_ENVIRONMENT: Final = ("url", "api_key", "source", "ca_bundle", "spool_dir", "durable", "fsync")
"""The settings that `BRAIN_EVENTS_<NAME>` can give."""

UNKNOWN_URL: Final = "http://unknown.invalid"
_USER_INFO = re.compile(r"[^\s/'\"]+@")


class Setting(msgspec.Struct, frozen=True):
    """A value as it may be shown, and where it is from."""

    value: Any
    origin: str


class Settings(msgspec.Struct, frozen=True):
    """What the environment makes of `init()`. `config` is None if it cannot be used; `url_known`: there is a url."""

    config: Config | None
    url_known: bool
    shown: dict[str, Setting]
    findings: list[Finding]


def read(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Settings:
    """Return the settings that an application in this environment has, `flags` in the place of `init`'s arguments."""
    given = {name: value for name, value in flags.items() if value is not None}
    findings = list(_unknown_names(environ))
    url_known = bool(given.get("url") or environ.get("BRAIN_EVENTS_URL"))
    if not url_known:
        do = "set BRAIN_EVENTS_URL, or give init() a url; --url checks one"
        findings.append(Finding("settings", "wrong", "no url is known: nothing is sent", do=do))
    arguments: dict[str, Any] = {"url": None, "api_key": None, "source": None} | given
    if arguments.get("spool_dir") == "none":
        arguments["spool_dir"] = None
    arguments["url"] = arguments["url"] or environ.get("BRAIN_EVENTS_URL") or UNKNOWN_URL
    config = None
    try:
        config = load(environ, **arguments)
        findings.append(Finding("settings", "ok", "the settings can be used"))
    except ConfigError as error:
        what = without_secrets(str(error))
        findings.append(Finding("settings", "wrong", what, do="init() raises ConfigError with these settings: mend it"))
    shown = {} if config is None else dict(_shown(config, environ, given, url_known=url_known))
    return Settings(config, url_known, shown, findings)


def without_secrets(text: str) -> str:
    """Return `text` without what stands in it like a password: also `user:password@host` without a scheme."""
    return _USER_INFO.sub("[scrubbed]@", scrub_text(text, frozenset()))


def _unknown_names(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = [f"BRAIN_EVENTS_{name.upper()}" for name in FROM_ENVIRONMENT]
    for name in sorted(environ):
        if name.startswith("BRAIN_EVENTS_") and name not in known:
            close = get_close_matches(name, known, 1)
            do = f"did you mean {close[0]}?" if close else f"the SDK reads {', '.join(known)}"
            yield Finding("settings", "wrong", f"{name} is set, but it is no setting", name, do)


def _shown(
    config: Config, environ: Mapping[str, str], given: Mapping[str, str], *, url_known: bool
) -> Iterator[tuple[str, Setting]]:
    for name in Config.__struct_fields__:
        value = getattr(config, name)
        if name == "url" and not url_known:
            value = None
        yield name, Setting(_safe(name, value, config), _origin(name, environ, given, value))


def _safe(name: str, value: Any, config: Config) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name == "api_key":
        return "(set, not shown)"
    if name == "spool_dir":
        return str(config.outbox_dir())
    if isinstance(value, frozenset):
        return sorted(value)
    return without_secrets(str(value))


def _origin(name: str, environ: Mapping[str, str], given: Mapping[str, str], value: Any) -> str:
    variable = f"BRAIN_EVENTS_{name.upper()}"
    if name in given:
        return f"flag --{name.replace('_', '-')}"
    if name in FROM_ENVIRONMENT and environ.get(variable):
        return f"environment variable {variable}"
    if name == "proxy" and value is not None:
        return "environment variable HTTP_PROXY or HTTPS_PROXY"
    return "not set" if value is None else "default"

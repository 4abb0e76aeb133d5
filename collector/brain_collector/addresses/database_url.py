"""Reads a PostgreSQL URL in the forms that libpq accepts, as arguments for the driver.

The driver sends parameters that it does not know to the server, which refuses the connection; and it ignores an
unencoded `#`, with all that follows. Here every parameter of libpq is honoured, ignored because that is harmless, or
refused because ignoring it would lower security. Others are settings of the session, which the server checks.
"""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode

from brain_collector.errors import SettingsError

SCHEMES: Final = ("postgresql", "postgres")
DEFAULT_PORT: Final = 5432

_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS: Final = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
_WITH_SYSTEM: Final = frozenset({"sslrootcert", "sslcert", "sslkey", "sslpassword", "sslnegotiation"})
_PASSED_ON: Final = frozenset({"target_session_attrs", "passfile", "service", "krbsrvname", "gsslib"})
_IGNORED: Final = frozenset(
    {
        *("connect_timeout", "tcp_user_timeout", "load_balance_hosts"),  # the collector has deadlines of its own
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("application_name", "fallback_application_name", "client_encoding"),  # the collector sets them itself
        *("sslcompression", "sslsni", "gssdelegation", "min_protocol_version", "max_protocol_version"),
    }
)
"""Parameters of libpq that are accepted without effect. None of them makes a connection safer."""
_REFUSED: Final = {
    "channel_binding": "use require, prefer or disable",
    "gssencmode": "GSSAPI encryption is not supported; use sslmode=verify-full",
    "hostaddr": "name the server by host",
    "replication": "the collector opens ordinary connections only",
    "require_auth": "the driver cannot restrict how the server authenticates it; use sslmode=verify-full",
    "requirepeer": "the driver cannot check the user of the server; protect the directory of its socket",
    "requiressl": "use sslmode=require or sslmode=verify-full",
    "ssl": "use sslmode=require or sslmode=verify-full",
    "sslcertmode": "the driver cannot check whether the server asks for a certificate; remove it",
    "sslcrldir": "use sslcrl, with one file",
}
"""Parameters that would lower security if they were ignored, or that belong to other drivers, with a remedy."""
_HARMLESS: Final = {"channel_binding": {"prefer", "disable"}, "gssencmode": {"prefer", "disable"}}


def connect_arguments(
    url: str, server_settings: Mapping[str, str] | None = None, *, name: str = "--database-url"
) -> dict[str, Any]:
    """Return the keyword arguments of `asyncpg.connect` for a URL; `server_settings` override those of the URL.

    `name` is the setting that has the URL, for errors.

    Raises:
        SettingsError: the URL is malformed, or has a parameter that cannot be honoured.
    """
    try:
        return _arguments(url, dict(server_settings or {}))
    except _Malformed as error:
        raise SettingsError(f"{name} {error}") from None


class _Malformed(Exception):  # noqa: N818 - an outcome
    """The remedy for a URL; it never quotes a part that could belong to a password."""


def _arguments(url: str, server_settings: dict[str, str]) -> dict[str, Any]:
    user_info, hosts, path, parameters = _parts(url)
    user, _, password = (unquote(part) for part in user_info.partition(":"))
    arguments: dict[str, Any] = {
        "user": user or parameters.pop("user", None),
        "password": password or parameters.pop("password", None),
        "database": unquote(path) or parameters.pop("dbname", None) or parameters.pop("database", None),
        **_hosts(hosts, parameters),
        **_tls(parameters),
        **{name: parameters.pop(name) for name in _PASSED_ON & parameters.keys()},
    }
    for name in ("user", "password", "dbname", "database", *_IGNORED):
        parameters.pop(name, None)
    for name, value in parameters.items():
        if name in _REFUSED and value not in _HARMLESS.get(name, ()):
            raise _Malformed(f"has the parameter {name}, which is not supported: {_REFUSED[name]}")
    ours = {name.lower() for name in server_settings}  # the server does not distinguish case
    session = {name: value for name, value in parameters.items() if name not in _REFUSED and name.lower() not in ours}
    arguments["server_settings"] = session | server_settings
    return {name: value for name, value in arguments.items() if value is not None}


def _parts(url: str) -> tuple[str, str, str, dict[str, str]]:
    """Return the user info, the hosts, the name of the database, and the decoded parameters."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in SCHEMES:
        raise _Malformed("must begin with postgresql:// or postgres://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user_info, _, hosts = authority.rpartition("@")
    if "@" in f"{user_info}{path}{query}" or "#" in rest or "#" in query:
        raise _Malformed(
            "has an @, /, ? or # of which it is uncertain whether it belongs to the password; in the user, the "
            "password and the parameters write @ as %40, / as %2F, ? as %3F and # as %23"
        )
    try:
        parameters = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise _Malformed("has a malformed parameter; each must be name=value, separated by &") from None
    return user_info, hosts, path, parameters


def _hosts(text: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Return hosts, and a port for each; without them the driver uses PGHOST and PGPORT, or its defaults."""
    given = parameters.pop("host", "")
    specs = [unquote(spec) for spec in text.split(",")] if text else given.split(",") if given else []
    pairs = [_host_and_port(spec) for spec in specs]
    ports = [_port(port) for port in parameters.pop("port", "").split(",") if port]
    if ports and len(ports) not in {1, len(pairs) or 1}:
        raise _Malformed(f"names {len(pairs)} hosts and {len(ports)} ports; name one port, or one for each host")
    if not ports and any(port for _, port in pairs):
        ports = [port or DEFAULT_PORT for _, port in pairs]
    if len(ports) == 1:
        ports *= len(pairs) or 1
    return ({"host": [host for host, _ in pairs]} if pairs else {}) | ({"port": ports} if ports else {})


def _host_and_port(spec: str) -> tuple[str, int | None]:
    if spec.startswith("/"):  # the directory of a Unix socket
        return spec, None
    if spec.startswith("["):
        host, bracket, rest = spec[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in {"", ":"}:
            raise _Malformed("has a malformed IPv6 address; write it as [::1] or [::1]:5432")
    else:
        host, _, port = spec.partition(":")
    if not host:
        raise _Malformed("names no host before a port or a comma")
    return host, _port(port) if port else None


def _port(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and 0 < int(text[:6]) < 65_536):
        raise _Malformed("has a port that is not a number from 1 to 65535; in the password write : as %3A, @ as %40")
    return int(text)


def _tls(parameters: dict[str, str]) -> dict[str, Any]:
    """Return the arguments for TLS. The driver takes most of them by a URL only."""
    tls = {name: parameters.pop(name) for name in sorted(_TLS & parameters.keys())}
    mode = tls.get("sslmode")
    if mode is not None and mode not in _SSL_MODES:
        raise _Malformed(f"has an sslmode that is not one of {', '.join(_SSL_MODES)}")
    if parameters.get("channel_binding") == "require":
        del parameters["channel_binding"]
        _verify_instead_of_binding(tls, mode)
    if tls.get("sslrootcert") != "system":
        return {"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {}
    if tls.pop("sslmode", "verify-full") != "verify-full":
        raise _Malformed(f"has sslrootcert=system with sslmode={mode}, which is weaker; use sslmode=verify-full")
    if unsupported := tls.keys() - _WITH_SYSTEM:
        raise _Malformed(f"has sslrootcert=system with {min(unsupported)}, which is not supported; remove it")
    direct = {"direct_tls": True} if tls.get("sslnegotiation") == "direct" else {}
    return {"ssl": _system_context(tls.get("sslcert"), tls.get("sslkey"), tls.get("sslpassword")), **direct}


def _verify_instead_of_binding(tls: dict[str, str], mode: str | None) -> None:
    """Require a verified certificate. It protects from the same attack as channel binding, which the driver lacks.

    Both make sure that nobody in the middle terminates TLS.
    """
    if mode == "disable":
        raise _Malformed("has channel_binding=require, which needs TLS, with sslmode=disable; use sslmode=verify-full")
    if mode != "verify-ca":
        tls["sslmode"] = "verify-full"
        tls.setdefault("sslrootcert", "system")


@lru_cache
def _system_context(certificate: str | None, key: str | None, password: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates; cached, since it takes 20 ms to make."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password or "")
        except OSError:
            raise _Malformed(
                "has an sslcert, sslkey or sslpassword with which the certificate cannot be read"
            ) from None
    return context

"""Checks the URL of a Redis or Valkey server, and returns it in the form that the client library takes."""

import re
from typing import Final
from urllib.parse import parse_qsl

from brain_collector.errors import SettingsError

SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The accepted schemes, and the scheme that the client library has for each."""

_INTEGERS: Final = frozenset({"db", "protocol", "health_check_interval"})
_PARAMETERS: Final = _INTEGERS | {
    *("username", "password", "client_name", "socket_keepalive"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_check_hostname"),
    *("ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_ciphers"),
}
_CERT_REQS: Final = ("required", "optional", "none")


def connection_url(url: str, *, name: str = "--redis-url") -> str:
    """Return the URL as the client library takes it.

    Raises:
        SettingsError: the URL is malformed, or has a parameter that is not supported. The error never quotes a part
            that could be of a password.
    """
    scheme, separator, rest = url.partition("://")
    if "sentinel" in scheme:
        raise SettingsError(
            f"{name}: Sentinel is not supported; name the primary, or an address that leads to it, with redis://"
        )
    if not separator or scheme not in SCHEMES:
        raise SettingsError(f"{name} must begin with {', '.join(f'{known}://' for known in SCHEMES)}")
    if problem := _problem(scheme, rest):
        raise SettingsError(f"{name} {problem}")
    return f"{SCHEMES[scheme]}://{rest}"


def _problem(scheme: str, rest: str) -> str | None:
    """Return what is wrong with the part after the scheme."""
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if "@" in f"{path}{query}" or "#" in f"{rest}{query}":
        return (
            "has an @, /, ? or # of which it is uncertain whether it belongs to the password; in the user, the "
            "password and the parameters write @ as %40, / as %2F, ? as %3F and # as %23"
        )
    host = authority.rpartition("@")[2]
    if scheme != "unix":
        if "," in host:
            return "names several hosts; name one server, or an address that leads to the primary"
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host):
            return "names no host, or a port that is not a number; in the password write : as %3A and @ as %40"
        if not re.fullmatch(r"[0-9]*/?", path):
            return "has a path that is not the number of a database"
    return _parameter_problem(query)


def _parameter_problem(query: str) -> str | None:
    try:
        parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        return "has a malformed parameter; each must be name=value, separated by &"
    for name, value in parameters:
        if name not in _PARAMETERS:
            known = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "whose name is malformed"
            return f"has the parameter {known}, which is not supported; remove it"
        if name in _INTEGERS and not re.fullmatch(r"[0-9]{1,9}", value):
            return f"has the parameter {name}, which must be a whole number"
        if name == "ssl_cert_reqs" and value not in _CERT_REQS:
            return f"has the parameter {name}, which must be {' or '.join(_CERT_REQS)}"
    return None

"""Masks a URL, and what its server responds, for output: shows what identifies the server, and no secret.

Only known harmless parts are shown. Where an unencoded password makes it uncertain which part is which, nothing but the
scheme is shown.
"""

import re
from typing import Final
from urllib.parse import unquote, unquote_plus

MASK: Final = "***"
MIN_CUT_CHARS: Final = 8
"""Length from which the beginning of a secret is masked too: a server may quote only a part of what it was sent."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_USER: Final = re.compile(r"([A-Za-z0-9._~-]*):.+", re.DOTALL)
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9]+)?\]|[A-Za-z0-9._-]*)(?::[0-9]{0,5})?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
_PATH: Final = re.compile(r"[A-Za-z0-9._~%/-]*")
_VALUE: Final = re.compile(r"[A-Za-z0-9._~%/,:-]*")
_SHOWN_PARAMETERS: Final = frozenset(
    {
        *("host", "port", "hostaddr", "dbname", "database", "db", "target_session_attrs", "load_balance_hosts"),
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "channel_binding", "gssencmode"),
        *(
            "ssl_min_protocol_version",
            "ssl_max_protocol_version",
            "ssl_cert_reqs",
            "ssl_ca_certs",
            "ssl_check_hostname",
        ),
        *("application_name", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
        *("keepalives_count", "tcp_user_timeout", "protocol", "service"),
    }
)


def masked(url: str) -> str:
    """Return a URL without its password, and without anything else that could contain one."""
    match = _SCHEME.fullmatch(url)
    if match is None:
        return MASK
    scheme, rest = match.groups()
    cut = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
    authority, rest = rest[:cut], rest[cut:]
    if "@" in rest:  # an unencoded `/`, `?` or `#` in the password, or an `@` in a parameter
        return f"{scheme}://{MASK}"
    user_info, at, hosts = authority.rpartition("@")
    rest, hash_mark, _ = rest.partition("#")
    path, question_mark, query = rest.partition("?")
    return "".join(
        [
            f"{scheme}://",
            _user(user_info) + at if at else "",
            hosts if _HOSTS.fullmatch(hosts) else MASK,
            path if _PATH.fullmatch(path) else f"/{MASK}",
            question_mark,
            "&".join(map(_parameter, query.split("&"))) if query else "",
            f"#{MASK}" if hash_mark else "",
        ]
    )


def without_secrets(text: str, url: str) -> str:
    """Return a text from the server of this URL, which may quote what it was sent, without the secrets of the URL."""
    secrets = _secrets(url)
    cut = {secret[:n_chars] for secret in secrets for n_chars in range(MIN_CUT_CHARS, len(secret))}
    for part in sorted(secrets | cut, key=len, reverse=True):
        text = text.replace(part, MASK)
    return text


def _secrets(url: str) -> set[str]:
    """Return the passwords of a URL, as they are written and decoded."""
    rest, _, query = url.partition("://")[2].partition("?")
    user_info = rest.partition("/")[0].rpartition("@")[0]
    pairs = [parameter.partition("=") for parameter in query.split("&")]
    passwords = [value for name, _, value in pairs if "password" in unquote(name)]
    written = [user_info.partition(":")[2], *passwords]
    return {form for text in written for form in (text, unquote(text), unquote_plus(text)) if form}


def _user(user_info: str) -> str:
    """Return the user beside a masked password; alone it may be a token, and is masked too."""
    match = _USER.fullmatch(user_info)
    return f"{match[1]}:{MASK}" if match else MASK


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    if name not in _SHOWN_PARAMETERS:
        return f"{name}={MASK}" if equals and re.fullmatch(r"\w+", name) else MASK
    return text if _VALUE.fullmatch(value) else f"{name}={MASK}"

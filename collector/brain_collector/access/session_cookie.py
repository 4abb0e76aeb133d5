"""The headers that browsers add by themselves: the session cookie, and Origin, which names the requesting page.

No forwarded header is trusted: Origin has the address under which the page was loaded, and no page can forge it.
"""

from typing import Final
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from brain_collector.errors import OriginRefused

COOKIE: Final = "brain_events_key"
_ATTRIBUTES: Final = "Path=/; HttpOnly; SameSite=Strict"
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def session_key(headers: Headers) -> str | None:
    """Return the API key in the session cookie, or None without one."""
    lines = headers.getlist("cookie")
    value = cookie_parser("; ".join(lines)).get(COOKIE) if lines else None
    return value and unquote(value)


def cookie_of(key: str, headers: Headers) -> str:
    """Return a session cookie with an API key; it is limited to TLS if the page was loaded over TLS."""
    secure = "; Secure" if headers.get("origin", "").startswith("https://") else ""
    return f"{COOKIE}={quote(key, safe='')}; {_ATTRIBUTES}{secure}"


def expired_cookie() -> str:
    """Return a cookie that makes the browser delete the session cookie."""
    return f"{COOKIE}=; {_ATTRIBUTES}; Max-Age=0"


def refuse_other_origins(headers: Headers, *, allow_missing: bool) -> None:
    """Refuse a request from a page of another origin; `allow_missing` accepts one without an Origin header.

    Raises:
        OriginRefused: the Origin is not the collector's own.
    """
    origin = headers.get("origin")
    if (allow_missing and origin is None) or _is_own(origin or "", headers.get("host", "")):
        return
    raise OriginRefused(
        f"Origin is {(origin or '')[:80]!r}, but Host is {headers.get('host', '')[:80]!r}: browser sessions and "
        "WebSockets from a browser are limited to the collector's own origin; send `Authorization: Bearer <API key>` "
        "without Origin, or let the proxy pass the Host header unchanged"
    )


def _is_own(origin: str, host: str) -> bool:
    """Return whether an origin is that of the Host header; a proxy may have added or removed the default port."""
    scheme, _, origin_host = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and origin_host.removesuffix(port) == host.lower().removesuffix(port) != ""

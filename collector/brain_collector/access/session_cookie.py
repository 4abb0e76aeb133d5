"""The headers that browsers add by themselves: the session cookie, Origin and Sec-Fetch-Site, which tell of the page.

No forwarded header is trusted: Origin has the address under which the page was loaded, and no page can forge it.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from brain_collector.errors import OriginRefused

COOKIE: Final = "brain_events_session"
FORMER_COOKIE: Final = "brain_events_key"
"""The cookie of releases before 0.2.0, which contained the API key itself. It is not accepted, and deleted."""

_ATTRIBUTES: Final = "Path=/; HttpOnly; SameSite=Strict"
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def session_token(headers: Headers) -> str | None:
    """Return the token in the session cookie, or None without one."""
    return _cookies(headers).get(COOKIE)


def cookies_with(token: str, headers: Headers) -> list[str]:
    """Return the cookies that begin a session; they are limited to TLS if the page was loaded over TLS."""
    secure = "; Secure" if page_scheme(headers) == "https" else ""
    return [f"{COOKIE}={token}; {_ATTRIBUTES}{secure}", *_former(headers)]


def expired_cookies(headers: Headers) -> list[str]:
    """Return the cookies that make the browser delete its session."""
    return [_expired(COOKIE), *_former(headers)]


def page_scheme(headers: Headers) -> str:
    """Return the scheme of the page that sent the request; empty if no page did."""
    scheme, separator, _ = headers.get("origin", "").lower().partition("://")
    return scheme if separator and scheme in _DEFAULT_PORTS else ""


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


def refuse_other_sites(headers: Headers) -> None:
    """Refuse a request that the browser says another origin has sent, which includes another scheme of this host.

    Raises:
        OriginRefused: Sec-Fetch-Site is neither `same-origin` nor `none`.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site.lower() not in _OWN_SITES:
        raise OriginRefused(
            f"Sec-Fetch-Site is {site[:40]!r}: browser sessions are limited to the collector's own origin; send "
            "`Authorization: Bearer <API key>`"
        )


def refuse_other_scheme(headers: Headers, scheme: str) -> None:
    """Refuse a request from a page with another scheme than the page that began the session; an empty one is unknown.

    This collector may be behind a TLS proxy, so it does not know the scheme of its own address.

    Raises:
        OriginRefused: the schemes differ.
    """
    if scheme and page_scheme(headers) != scheme:
        raise OriginRefused(
            f"Origin is {headers.get('origin', '')[:80]!r}, but the session began on a page of {scheme}; log in again"
        )


def _is_own(origin: str, host: str) -> bool:
    """Return whether an origin is that of the Host header; a proxy may have added or removed the default port."""
    scheme, _, origin_host = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and origin_host.removesuffix(port) == host.lower().removesuffix(port) != ""


def _cookies(headers: Headers) -> dict[str, str]:
    lines = headers.getlist("cookie")
    return cookie_parser("; ".join(lines)) if lines else {}


def _former(headers: Headers) -> list[str]:
    return [_expired(FORMER_COOKIE)] if FORMER_COOKIE in _cookies(headers) else []


def _expired(name: str) -> str:
    return f"{name}=; {_ATTRIBUTES}; Max-Age=0"

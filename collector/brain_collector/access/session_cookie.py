"""What a browser sends along by itself: the session's cookie, and Origin, which says whose page it is that asks.

No forwarded header is believed: Origin says how the page was reached, and no page can forge it.
"""

from typing import Final
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from brain_collector.errors import OriginRefused

COOKIE: Final = "brain_events_key"
_ATTRIBUTES: Final = "Path=/; HttpOnly; SameSite=Strict"
_PORTS: Final = {"http": ":80", "https": ":443"}


def session_key(headers: Headers) -> str | None:
    """Return the key in the session's cookie, if there is one."""
    given = headers.getlist("cookie")
    found = cookie_parser("; ".join(given)).get(COOKIE) if given else None
    return found and unquote(found)


def cookie_of(key: str, headers: Headers) -> str:
    """Return the cookie that holds a key; it goes with the browser, and over TLS alone if the page came by it."""
    secure = "; Secure" if headers.get("origin", "").startswith("https://") else ""
    return f"{COOKIE}={quote(key, safe='')}; {_ATTRIBUTES}{secure}"


def no_cookie() -> str:
    """Return the cookie that takes the other one away."""
    return f"{COOKIE}=; {_ATTRIBUTES}; Max-Age=0"


def refuse_foreign(headers: Headers, *, without_origin: bool) -> None:
    """Refuse what a page that is not the collector's own has sent; `without_origin`: take what names none.

    Raises:
        OriginRefused: as said.
    """
    origin = headers.get("origin")
    if (without_origin and origin is None) or _is_own(origin or "", headers.get("host", "")):
        return
    raise OriginRefused(
        f"Origin is {(origin or '')[:80]!r} and Host {headers.get('host', '')[:80]!r}: a session, or a browser's "
        "WebSocket, is for the collector's own page alone; send `Authorization: Bearer <API key>` and no Origin, or "
        "let the proxy pass the Host header"
    )


def _is_own(origin: str, host: str) -> bool:
    """Tell whether the page is from where the request went; a proxy may have added or dropped the usual port."""
    scheme, _, place = origin.lower().partition("://")
    usual = _PORTS.get(scheme)
    return usual is not None and place.removesuffix(usual) == host.lower().removesuffix(usual) != ""

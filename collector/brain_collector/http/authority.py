"""The authority that a request is for: the Host header, and the target in absolute form (RFC 9112, section 3.2)."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from brain_collector.errors import RequestMalformed

# Names as in DNS and container networks. Other text is not percent-decoded or trimmed to make it a name.
_AUTHORITY: Final = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII)
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(?:[/?].*)?", re.ASCII | re.IGNORECASE)


@lru_cache(64)
def host_name(authority: str) -> str | None:
    """Return the name or address in `host[:port]` in lower case; None if it does not have this form."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    name, address = match.groups()
    if address is None:
        return str(name).lower()
    try:
        IPv6Address(address)
    except ValueError:
        return None
    return str(address).lower()


def check_authority(target: bytes, host: str) -> None:
    """Refuse a Host header that is not `host[:port]`, and a target that is not a path, `*` or a URL of this host.

    An empty Host is accepted: it names no host, and the guard decides.

    Raises:
        RequestMalformed: see above.
    """
    if host and host_name(host) is None:
        raise RequestMalformed(
            f"the Host header is {host[:80]!r}; send the host name or address, and optionally a port: host[:port]"
        )
    if target.startswith(b"/") or target == b"*":
        return
    absolute = _ABSOLUTE.fullmatch(target.decode("latin-1"))
    if absolute is None:
        raise RequestMalformed(f"the target is {target[:80].decode('latin-1')!r}; send a path, such as /api/events")
    if absolute[1].lower() != host.lower():
        raise RequestMalformed(f"the request is for {absolute[1][:80]!r}, but the Host header is {host[:80]!r}")

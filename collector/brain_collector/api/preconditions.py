"""Conditional requests (RFC 9110, sections 8.8.3 and 13): entity tags, If-Match and If-None-Match."""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec
from starlette.requests import Request

from brain_collector.api.operation import Parameter
from brain_collector.errors import PreconditionFailed
from brain_collector.schema import Event

_TAG: Final = re.compile(r'(?:W/)?("[!\x23-\x7e\x80-\xff]*")')
_LIST: Final = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,[ \t,]*{_TAG.pattern})*[ \t,]*")

IF_MATCH: Final = Parameter(
    name="If-Match",
    location="header",
    type=str,
    description="Proceed only if the event still has this ETag; otherwise 412.",
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match", location="header", type=str, description="Respond with 304 if the event still has this ETag."
)


def etag(content: bytes) -> str:
    """Return the strong validator of a response: equal bytes have equal tags."""
    return f'"{blake2b(content, digest_size=12).hexdigest()}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether If-None-Match contains the tag (by weak comparison), so that the response is 304."""
    header = _header(request, "if-none-match")
    return header is not None and (header == "*" or tag in _tags(header))


def precondition_of(request: Request) -> Callable[[Event], None] | None:
    """Return a function that raises if an event does not meet If-Match or If-None-Match; None without a condition.

    A malformed tag matches nothing, so that it never allows a change.
    """
    match, none_match = _header(request, "if-match"), _header(request, "if-none-match")
    if match is None and none_match is None:
        return None

    def check(event: Event) -> None:
        tag = etag(msgspec.json.encode(event))
        if match not in {None, "*"} and tag not in _tags(str(match), strong=True):
            raise PreconditionFailed(
                f"event {event.id} has the ETag {tag}, which is not in If-Match: {str(match)[:80]}; get the event "
                "again, and, if the change still applies, send it with that ETag"
            )
        if none_match is not None and (none_match == "*" or tag in _tags(none_match)):
            raise PreconditionFailed(f"event {event.id} has the ETag {tag}, which If-None-Match excludes")

    return check


def _header(request: Request, name: str) -> str | None:
    """Return the value of a header; several lines are joined into one list."""
    lines = request.headers.getlist(name)
    return ", ".join(lines).strip(" \t") if lines else None


def _tags(header: str, *, strong: bool = False) -> set[str]:
    """Return the tags of a list, with their quotes, or nothing if it is malformed; `strong`: leave out weak tags."""
    if _LIST.fullmatch(header) is None:
        return set()
    return {match[1] for match in _TAG.finditer(header) if not (strong and match[0].startswith("W/"))}

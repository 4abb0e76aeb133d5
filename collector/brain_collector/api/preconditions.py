"""Entity tags (RFC 9110, 8.8.3 and 13): what the client has already, and which state of an event it wants to change."""

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
    name="If-Match", place="header", type=str, description="Go on only if the event is still the one of this ETag."
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match", place="header", type=str, description="Answer 304 if the event is still the one of this ETag."
)


def etag(content: bytes) -> str:
    """Return the strong validator of an answer: the same bytes, the same tag."""
    return f'"{blake2b(content, digest_size=12).hexdigest()}"'


def is_known(request: Request, tag: str) -> bool:
    """Tell whether If-None-Match names the tag (by the weak comparison), so that 304 says it all."""
    given = _given(request, "if-none-match")
    return given is not None and (given == "*" or tag in _tags(given))


def check_of(request: Request) -> Callable[[Event], None] | None:
    """Return what refuses to change an event that is not the one of If-Match, or is the one of If-None-Match.

    None if the request sets no condition. What cannot be read as a tag matches nothing: it must not change anything.
    """
    match, none_match = _given(request, "if-match"), _given(request, "if-none-match")
    if match is None and none_match is None:
        return None

    def check(event: Event) -> None:
        tag = etag(msgspec.json.encode(event))
        if match not in {None, "*"} and tag not in _tags(str(match), strong=True):
            raise PreconditionFailed(
                f"event {event.id} has the ETag {tag}, which is not in If-Match: {str(match)[:80]}; get it again, and "
                "send the change with the ETag of that answer if it still applies"
            )
        if none_match is not None and (none_match == "*" or tag in _tags(none_match)):
            raise PreconditionFailed(f"event {event.id} has the ETag {tag}, which If-None-Match excludes")

    return check


def _given(request: Request, name: str) -> str | None:
    """Return the header; lines of the same name are one list."""
    lines = request.headers.getlist(name)
    return ", ".join(lines).strip(" \t") if lines else None


def _tags(given: str, *, strong: bool = False) -> set[str]:
    """Return the opaque tags of a list, in their quotes; none if it is no list of tags. `strong`: without weak ones."""
    if _LIST.fullmatch(given) is None:
        return set()
    return {found[1] for found in _TAG.finditer(given) if not (strong and found[0].startswith("W/"))}

"""Paging: `limit` and `cursor` in, a Link header with the next page's cursor out."""

from collections.abc import Iterable
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Meta
from starlette.requests import Request

from brain_collector.api import parameters
from brain_collector.api.operation import Parameter
from brain_collector.errors import ParameterInvalid
from brain_collector.query import cursor
from brain_collector.settings import Settings

DEFAULT_LIMIT: Final = 100
_encode: Final = msgspec.json.encode

MAX_LINK_FACTOR: Final = 6
"""Bytes in a link per byte of the query string, at most: beyond ASCII, it is read as Latin-1 and sent as UTF-8."""

LINK_HEADER: Final = {"Link": "The next page (`rel=next`), if there is one."}

PAGE_PARAMETERS: Final = (
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1)],
        maximum="max_list_limit",
        description=f"Maximum number of items of the page; {DEFAULT_LIMIT} by default. A page of large items may have "
        "fewer, and still a next page.",
    ),
    Parameter(
        name="cursor",
        type=str,
        description="The position at which the previous page ended, taken from its Link header.",
    ),
)


def page_limit(request: Request, settings: Settings) -> int:
    """Return the page size."""
    maximum = settings.max_list_limit
    return parameters.whole_number(request, "limit", default=min(DEFAULT_LIMIT, maximum), minimum=1, maximum=maximum)


def position_of(request: Request, filter: msgspec.Struct, settings: Settings) -> cursor.Position | None:
    """Return the position in the cursor, which must belong to the filter; None for the first page.

    Raises:
        ParameterInvalid, CursorMismatch: see `cursor.decode`; or the link to the next page could not be followed.
    """
    max_bytes = settings.max_head_bytes // 2
    if (
        len(request.scope["query_string"]) * MAX_LINK_FACTOR > max_bytes
        and (n_bytes := len(urlencode(_repeated(request)))) > max_bytes
    ):
        raise ParameterInvalid(
            f"the parameters have {n_bytes:,} bytes in the link to the next page, the maximum is {max_bytes:,} (half "
            "of BRAIN_COLLECTOR_MAX_HEAD_BYTES); send shorter values"
        )
    token = request.query_params.get("cursor")
    return cursor.decode(token, filter) if token else None


def encode_within(items: Iterable[Any], max_bytes: int) -> tuple[int, list[bytes]]:
    """Return a JSON array of the first items, of at most `max_bytes`, but at least one item; and how many they are.

    The array is in parts, so that large ones are copied only once, by the caller.
    """
    parts, n, size = [b"["], 0, 2
    for item in items:
        encoded = _encode(item)
        size += len(encoded) + (1 if n else 0)
        if n and size > max_bytes:
            break
        parts += [b",", encoded] if n else [encoded]
        n += 1
    return n, [*parts, b"]"]


def link_header(request: Request, token: str) -> dict[str, str]:
    """Return the Link header for a cursor, or no header for an empty one. A relative URL is valid behind any proxy."""
    if not token:
        return {}
    query = urlencode([*_repeated(request), ("cursor", token)])
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}


def _repeated(request: Request) -> list[tuple[str, str]]:
    """Return the parameters that the link to the next page repeats."""
    return [(name, value) for name, value in request.query_params.multi_items() if name not in {"offset", "cursor"}]

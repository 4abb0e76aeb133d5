"""`/api/session`: a browser's session, which is a token in a cookie that scripts cannot read.

The token stands for an API key, and is worth nothing once that key is revoked. API keys have 256 random bits, and
the bootstrap key of a collector that others can reach has a minimum length, so attempts to guess one need no limit.
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector import VERSION
from brain_collector.access.guard import CHALLENGE, authenticated_caller
from brain_collector.access.keyring import OPEN, SCOPES
from brain_collector.access.session_cookie import (
    cookies_with,
    expired_cookies,
    page_scheme,
    refuse_other_origins,
    refuse_other_sites,
    session_token,
)
from brain_collector.api import parameters
from brain_collector.api.keys import decode
from brain_collector.api.operation import JSON, Operation, ResponseSpec
from brain_collector.api.resources import resources_of
from brain_collector.errors import Unauthorized, Unavailable
from brain_collector.http.body import MEMORY_FACTOR, body_of, media_type
from brain_collector.http.scope import Caller
from brain_collector.schema import Session, SessionCreate

PATH: Final = "/api/session"
MAX_BODY_BYTES: Final = 16_384
"""A small limit: the caller is not authenticated yet."""
MAX_PENDING_BYTES: Final = 16 * MEMORY_FACTOR * MAX_BODY_BYTES
"""The budget of these bodies, of which each network address has a share: they take nothing of the one for events."""


async def show(request: Request) -> Response:
    """Return the caller and its scopes."""
    parameters.refuse_unknown(request)
    return _json(authenticated_caller(request.scope))


async def begin(request: Request) -> Response:
    """Set the cookie to a token for the API key in the body, if it is valid."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    _refuse_other_pages(request)
    media_type(request, JSON)
    limits = msgspec.structs.replace(
        resources.settings, max_body_bytes=MAX_BODY_BYTES, max_inflated_bytes=MAX_BODY_BYTES
    )
    with resources.session_budget.reserve(_address(request)) as reservation:
        body = await body_of(request, limits, reservation, resources.body_threads)
        key = decode(body, SessionCreate).key
    try:
        caller = resources.keys.caller(key)
    except Unauthorized as error:
        error.headers |= CHALLENGE
        raise
    response = _json(caller)
    if caller is not OPEN:  # without required API keys, the cookie would have no use
        token = await resources.keys.sessions.begin(caller, page_scheme(request.headers))
        _set_cookies(response, cookies_with(token, request.headers))
    return response


async def end(request: Request) -> Response:
    """End the session on every collector, and delete the cookie."""
    parameters.refuse_unknown(request)
    _refuse_other_pages(request)
    cookies = expired_cookies(request.headers)
    if token := session_token(request.headers):
        try:
            await resources_of(request).keys.sessions.end(token, _address(request))
        except Unavailable as error:
            error.headers["Set-Cookie"] = cookies[0]
            raise
    response = Response(status_code=204)
    _set_cookies(response, cookies)
    return response


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _refuse_other_pages(request: Request) -> None:
    refuse_other_origins(request.headers, allow_missing=True)
    refuse_other_sites(request.headers)


def _set_cookies(response: Response, cookies: list[str]) -> None:
    for cookie in cookies:
        response.headers.append("Set-Cookie", cookie)


def _json(caller: Caller | None) -> Response:
    scopes = [scope for scope in SCOPES if caller and scope in caller.scopes]
    session = Session(caller=caller and caller.name, scopes=scopes, needs_key=caller is None, version=VERSION)
    return Response(msgspec.json.encode(session), headers={"Cache-Control": "no-store"}, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=show,
        summary="Get the caller and its scopes",
        description="`needs_key` is true if an API key is required and the request has no valid one.",
        tag="session",
        scope=None,
        responses={200: ResponseSpec(description="The caller and its scopes.", type=Session)},
        errors=(422, 503),
    ),
    Operation(
        method="POST",
        path=PATH,
        endpoint=begin,
        summary="Start a browser session",
        description="The response sets a cookie with a token that stands for the API key, for GET, and for other "
        "methods if Origin is the collector's own. The session ends with its API key, or after `SESSION_LIFE_DAYS`. If "
        "no API key is required, no cookie is set.",
        tag="session",
        scope=None,
        body={JSON: SessionCreate},
        responses={200: ResponseSpec(description="The API key is valid.", type=Session)},
        errors=(400, 401, 403, 408, 413, 415, 422, 503),
    ),
    Operation(
        method="DELETE",
        path=PATH,
        endpoint=end,
        summary="End a browser session",
        description="Deletes the cookie; its token is refused from now on, by other collectors within 5 s. The API key "
        "remains valid.",
        tag="session",
        scope=None,
        responses={204: ResponseSpec(description="The session has ended, and the cookie is deleted.")},
        errors=(403, 422, 503),
    ),
)

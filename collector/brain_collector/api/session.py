"""The session of a browser: an API key in a cookie that scripts cannot read. The key is checked on every request.

Nothing is kept here, so a revoked key ends every session with it. Keys have 256 random bits: guesses need no limit.
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector import VERSION
from brain_collector.access.guard import CHALLENGE, recognised
from brain_collector.access.keyring import OPEN, SCOPES
from brain_collector.access.session_cookie import cookie_of, no_cookie, refuse_foreign
from brain_collector.api import parameters
from brain_collector.api.keys import decode
from brain_collector.api.operation import JSON, Answer, Operation
from brain_collector.api.resources import resources_of
from brain_collector.errors import Unauthorized
from brain_collector.http.body import body_of, media_type
from brain_collector.http.scope import Caller
from brain_collector.schema import Session, SessionCreate

PATH: Final = "/api/session"
MAX_BODY_BYTES: Final = 16_384
"""Who sends it has no key yet."""


async def show(request: Request) -> Response:
    """Return who asks."""
    parameters.refuse_unknown(request)
    return _json(recognised(request.scope))


async def begin(request: Request) -> Response:
    """Put a key that is good into the cookie."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    refuse_foreign(request.headers, without_origin=True)
    media_type(request, JSON)
    small = msgspec.structs.replace(
        resources.settings, max_body_bytes=MAX_BODY_BYTES, max_inflated_bytes=MAX_BODY_BYTES
    )
    with resources.budget.reserve() as reservation:
        body = await body_of(request, small, reservation)
        key = decode(body, SessionCreate).key
    try:
        caller = resources.keys.caller(key)
    except Unauthorized as error:
        error.headers |= CHALLENGE
        raise
    answer = _json(caller)
    if caller is not OPEN:  # where no key is needed, none is kept
        answer.headers["Set-Cookie"] = cookie_of(key, request.headers)
    return answer


async def end(request: Request) -> Response:
    """Take the cookie away."""
    parameters.refuse_unknown(request)
    refuse_foreign(request.headers, without_origin=True)
    return Response(status_code=204, headers={"Set-Cookie": no_cookie()})


def _json(caller: Caller | None) -> Response:
    scopes = [scope for scope in SCOPES if caller and scope in caller.scopes]
    session = Session(caller=caller and caller.name, scopes=scopes, needs_key=caller is None, version=VERSION)
    return Response(msgspec.json.encode(session), headers={"Cache-Control": "no-store"}, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path=PATH,
        endpoint=show,
        summary="Tell who asks",
        description="`needs_key`: the request has no key that is good, and one is needed.",
        tag="session",
        scope=None,
        answers={200: Answer(description="Who asks, and what it may do.", type=Session)},
        errors=(422, 503),
    ),
    Operation(
        method="POST",
        path=PATH,
        endpoint=begin,
        summary="Begin a browser's session",
        description="The answer puts the key into a cookie, which is heeded like a Bearer key: for GET, and for other "
        "methods if Origin is the collector's resources. Where no key is needed, no cookie is set.",
        tag="session",
        scope=None,
        body={JSON: SessionCreate},
        answers={200: Answer(description="The key is good.", type=Session)},
        errors=(400, 401, 403, 408, 413, 415, 422, 503),
    ),
    Operation(
        method="DELETE",
        path=PATH,
        endpoint=end,
        summary="End a browser's session",
        description="Takes the cookie away; the key stays good.",
        tag="session",
        scope=None,
        answers={204: Answer(description="There is no cookie any more.")},
        errors=(403, 422),
    ),
)

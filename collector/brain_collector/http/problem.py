"""Errors as answers: the one place that turns an exception into `application/problem+json`."""

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.errors import Problem, ProblemBody
from brain_collector.http.scope import context_of
from brain_collector.http.security_headers import SECURITY_HEADERS

REQUEST_ID_HEADER: Final = "X-Request-ID"
MEDIA_TYPE: Final = "application/problem+json"

logger: Final = logging.getLogger(__name__)


def raw(problem: Problem, request_id: str) -> bytes:
    """Return the answer of a problem as it travels, for who speaks HTTP itself; the connection ends after it."""
    body = msgspec.json.encode(msgspec.structs.replace(problem.body, request_id=request_id))
    own = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        REQUEST_ID_HEADER: request_id,
    }
    lines = [f"{name}: {value}\r\n" for name, value in {**SECURITY_HEADERS, **problem.headers, **own}.items()]
    status = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
    return "".join([status, *lines, "\r\n"]).encode() + body


def response(problem: Problem) -> Response:
    """Return the answer of a problem."""
    return _response(problem.body, problem.headers)


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer an error of ours, at once or when it is time."""
    assert isinstance(error, Problem)
    if error.answer_after_s:
        error.with_traceback(None)  # its frames hold the body, which counts no more
        await _drop_body(request, error.answer_after_s)
    return response(error)


async def _drop_body(request: Request, seconds: float) -> None:
    """Let time pass, or the client go away; what it still sends is read and dropped, so that it can read the answer."""
    context_of(request.scope).connection.decline_body()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path, a method that a path does not have."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        404: f"there is nothing at {request.url.path}; /docs shows what there is",
        405: f"{request.url.path} does not take {request.method}; it takes {(error.headers or {}).get('Allow', '')}",
    }
    body = ProblemBody(
        title=status.phrase,
        status=status,
        code=status.name.lower(),
        detail=details.get(status, error.detail),
    )
    return _response(body, dict(error.headers or {}))


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer a fault of ours; what it was is for the log."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = ProblemBody(
        title="Internal Server Error",
        status=500,
        code="internal_server_error",
        detail="the collector has a fault; its log says which",
    )
    return _response(body, {})


def _response(body: ProblemBody, headers: dict[str, str]) -> Response:
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    own = {**SECURITY_HEADERS, REQUEST_ID_HEADER: request_id}  # some are answered outside of what sets them elsewhere
    return Response(
        msgspec.json.encode(msgspec.structs.replace(body, request_id=request_id)),
        status_code=body.status,
        headers=own | headers,
        media_type=MEDIA_TYPE,
    )

"""Errors as responses: the only place that turns an exception into `application/problem+json`."""

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
    """Return the response to a problem as HTTP/1.1 bytes, to be written to a connection that is then closed."""
    body = msgspec.json.encode(msgspec.structs.replace(problem.body, request_id=request_id))
    required = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        REQUEST_ID_HEADER: request_id,
    }
    lines = [f"{name}: {value}\r\n" for name, value in {**SECURITY_HEADERS, **problem.headers, **required}.items()]
    status = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
    return "".join([status, *lines, "\r\n"]).encode() + body


def response(problem: Problem) -> Response:
    """Return the response to a problem."""
    return _response(problem.body, problem.headers)


async def on_problem(request: Request, error: Exception) -> Response:
    """Respond to a problem, after its delay if it has one."""
    assert isinstance(error, Problem)
    if error.answer_after_s:
        error.with_traceback(None)  # its frames refer to the body, which no longer counts in the budget
        await _drop_body(request, error.answer_after_s)
    return response(error)


async def _drop_body(request: Request, seconds: float) -> None:
    """Wait until the delay is over or the client disconnects; read and discard its body, so that it can respond."""
    context_of(request.scope).connection.decline_body()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Respond to an unknown path, or to a method that the path does not support."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    path, allowed = request.url.path, (error.headers or {}).get("Allow", "")
    details = {
        404: f"{path} does not exist; /docs lists the paths",
        405: f"{path} does not support {request.method}; it supports {allowed}",
    }
    body = ProblemBody(
        title=status.phrase,
        status=status,
        code=status.name.lower(),
        detail=details.get(status, error.detail),
    )
    return _response(body, dict(error.headers or {}))


async def on_crash(request: Request, error: Exception) -> Response:
    """Respond to an unexpected exception; only the log contains it."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = ProblemBody(
        title="Internal Server Error",
        status=500,
        code="internal_server_error",
        detail="internal error; see the collector's log",
    )
    return _response(body, {})


def _response(body: ProblemBody, headers: dict[str, str]) -> Response:
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    # Set here too: some responses are made outside the middleware that adds these headers.
    common = {**SECURITY_HEADERS, REQUEST_ID_HEADER: request_id}
    return Response(
        msgspec.json.encode(msgspec.structs.replace(body, request_id=request_id)),
        status_code=body.status,
        headers=common | headers,
        media_type=MEDIA_TYPE,
    )

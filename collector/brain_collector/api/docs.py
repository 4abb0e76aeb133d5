"""The API's own description, `/openapi.json`; `/docs` shows it (`page.py`)."""

from collections.abc import Iterable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brain_collector.api.operation import JSON, Operation
from brain_collector.openapi import document


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return the route that describes `operations`."""
    described = msgspec.json.encode(document(operations))

    async def openapi(_request: Request) -> Response:
        return Response(described, media_type=JSON)

    return [Route("/openapi.json", openapi)]

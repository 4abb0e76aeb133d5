"""The API's own description: `/openapi.json`, and `/docs`, which shows it without reaching for any other server."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from brain_collector.api.operation import JSON, Operation
from brain_collector.openapi import document

_ASSETS: Final = {"swagger.js": "text/javascript", "swagger.css": "text/css", "start.js": "text/javascript"}
_FILES: Final = {"swagger.js": "swagger_bundle.js", "swagger.css": "swagger_style.css"}

# Swagger UI sets style attributes by script; its own scripts and styles are files of ours.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>brain-events: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger.css">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START: Final = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null, tryItOutEnabled: true
});
"""


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return the routes that describe `operations`."""
    described = msgspec.json.encode(document(operations))

    async def openapi(_request: Request) -> Response:
        return Response(described, media_type=JSON)

    return [
        Route("/openapi.json", openapi),
        Route("/docs", page),
        Route("/docs/{name}", asset),
    ]


async def page(_request: Request) -> Response:
    """Return the page; it works under any path prefix, since it asks for neighbours only."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP})


async def asset(request: Request) -> Response:
    """Return a file of the page."""
    name = request.path_params["name"]
    if name not in _ASSETS:
        raise HTTPException(404)
    content = _START.encode() if name == "start.js" else files("offapi").joinpath(_FILES[name]).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "max-age=3600"})

"""The dashboard at `/`, the API reference at `/docs`, and their files, as they were built into the package.

`hatch_build.py` builds them. They have no data. All are read at start-up and served by name.
"""

from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from brain_collector.api.static_files import File, read, respond

DIRECTORY: Final = Path(__file__).parents[1] / "dashboard"
PATHS: Final = ("/", "/assets/{name}")
"""The paths that are served without an API key."""

CSP: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# Swagger UI sets style attributes by script; its own scripts and styles are files of ours.
DOCS_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGES: Final = {"/": ("index.html", CSP), "/docs": ("docs.html", DOCS_CSP)}

_UNBUILT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>brain-events: no dashboard</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>This collector was installed without its dashboard</h1>
<p>Everything else works; <a href="openapi.json">openapi.json</a> describes the API.</p>
<p>To build the dashboard, run <code>pip install -e .</code> in a checkout, without BRAIN_EVENTS_SKIP_DASHBOARD
(or <code>npm ci &amp;&amp; npm run build</code> in <code>dashboard/</code>), and restart the collector.
It was not found in <code>{directory}</code>.</p>
</body>
</html>
"""


@cache
def files_in(directory: Path) -> dict[str, File]:
    """Return the files of a page by their names; none if it was not built."""
    paths = [*(directory / name for name, _ in _PAGES.values()), *(directory / "assets").glob("*")]
    return {path.name: read(path) for path in paths if path.is_file()}


def routes(directory: Path = DIRECTORY) -> list[Route]:
    """Return the routes of the pages in `directory`."""
    files = files_in(directory)
    pages = {name for name, _ in _PAGES.values()}

    async def page(request: Request) -> Response:
        name, csp = _PAGES[request.scope["path"]]
        if name not in files:
            return HTMLResponse(_UNBUILT.format(directory=escape(str(directory))), 503)
        return respond(request, files[name], "no-cache", csp)

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files or name in pages:
            raise HTTPException(404)
        caching = "public, max-age=31536000, immutable"  # a changed file has another name
        return respond(request, files[name], caching, CSP)

    return [*(Route(path, page) for path in _PAGES), Route(PATHS[1], asset)]

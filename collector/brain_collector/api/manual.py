"""The manual at `/manual/`, as it was built into the package (`hatch_build.py`). It has no data and needs no API key.

Its file names do not change between releases, so a browser revalidates each file it has cached.
"""

import base64
import hashlib
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from brain_collector.api.static_files import File, read, respond

DIRECTORY: Final = Path(__file__).parents[1] / "manual_site"
PATHS: Final = ("/manual", "/manual/{name:path}")
"""The paths that are served without an API key."""
STAMP: Final = "built-from"

# The theme has an inline style sheet and sets style attributes. Only its own inline scripts may run, by their hashes.
_CSP: Final = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

_UNBUILT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>brain-events: no manual</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>This collector was installed without its manual</h1>
<p>To build the manual, run <code>pip install -e .</code> in a checkout, without BRAIN_EVENTS_SKIP_MANUAL, and restart
the collector. It was not found in <code>{directory}</code>.</p>
<p>The same text is in the folder <code>docs</code> of the source code. <code>brain-events config show</code> lists the
settings, and <code>brain-events --help</code> the commands.</p>
</body>
</html>
"""


class _Page(NamedTuple):
    """A file of the manual, and the policy that it is served with."""

    file: File
    csp: str


@cache
def pages_in(directory: Path) -> dict[str, _Page]:
    """Return the files of a manual by their paths below `directory`; none if it was not built."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != STAMP]
    return {path.relative_to(directory).as_posix(): _page(path) for path in paths}


def _page(path: Path) -> _Page:
    file = read(path)
    scripts = _INLINE_SCRIPT.findall(file.content) if path.suffix == ".html" else []
    return _Page(file, _CSP.format(hashes="".join(f" '{_hash(script)}'" for script in dict.fromkeys(scripts))))


def _hash(script: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"


def routes(directory: Path = DIRECTORY) -> list[Route]:
    """Return the routes of the manual in `directory`."""
    pages = pages_in(directory)
    unbuilt = _UNBUILT.format(directory=escape(str(directory)))

    async def root(_request: Request) -> Response:
        # Relative, so that it is valid below any prefix that a proxy strips.
        return RedirectResponse("manual/") if pages else HTMLResponse(unbuilt, 503)

    async def page(request: Request) -> Response:
        if not pages:
            return HTMLResponse(unbuilt, 503)
        name = request.path_params["name"]
        manual_page = pages.get(f"{name}index.html" if not name or name.endswith("/") else name)
        if manual_page is None:
            raise HTTPException(404)
        return respond(request, manual_page.file, "no-cache", manual_page.csp)

    return [Route(PATHS[0], root), Route(PATHS[1], page)]

"""Serve files that were built into the package: by name, with an ETag, compressed if the client accepts gzip.

They are read once, at start-up, so a request never becomes a path. `dashboard` and `manual` choose the files.
"""

import gzip
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api.preconditions import etag, is_known
from brain_collector.http.body import accepts_gzip

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_PACKED: Final = {".css", ".html", ".js", ".json", ".svg", ".txt"}


class File(NamedTuple):
    """A file as it is served; `packed` is its gzip, if that is smaller."""

    content: bytes
    packed: bytes | None
    media_type: str
    tag: str


def read(path: Path) -> File:
    """Return the file at `path`, as it is served."""
    content = path.read_bytes()
    packed = gzip.compress(content, mtime=0) if path.suffix in _PACKED else content
    media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return File(content, packed if len(packed) < len(content) else None, media_type, etag(content))


def respond(request: Request, file: File, caching: str, csp: str) -> Response:
    """Return the response to a GET of `file`: 304 if the client has it already, else its content."""
    headers = {
        "Cache-Control": caching,
        "Content-Security-Policy": csp,
        "ETag": f"W/{file.tag}",  # weak: compressed or not, it is the same file
        "Vary": "Accept-Encoding",
    }
    if is_known(request, file.tag):
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.packed is not None and accepts_gzip(request):
        content = file.packed
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers | {"Content-Type": file.media_type})

"""Text that Postgres cannot store: NUL, halves of surrogate pairs, and bytes that are not UTF-8.

A line is cleaned before it is decoded, while it is still bytes, so that its numbers and everything else stay as sent.
"""

import re
from typing import Final

REPLACEMENT: Final = "\ufffd"

_BACKSLASH: Final = 92
_ESCAPES: Final = re.compile(
    rb"(?:\\\\)+"  # escaped backslashes: a `u` after them begins no escape
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # both halves of a pair
    rb"|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # NUL, or one half
)


def may_have_bad_escapes(body: bytes) -> bool:
    """Return whether escapes may stand for text that Postgres rejects."""
    if _BACKSLASH not in body:  # a memchr; the scans below took 15 % of the time to decode a batch
        return False
    return b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body


def storable(line: bytes) -> bytes:
    """Return the line with U+FFFD in the place of text that Postgres rejects; the line itself if there is none."""
    cleaned = _ESCAPES.sub(_replaced, line) if may_have_bad_escapes(line) else line
    try:
        cleaned.decode()
    except UnicodeDecodeError:
        cleaned = cleaned.decode("utf-8", "replace").encode()
    return line if cleaned == line else cleaned


def _replaced(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] is None else b"\\ufffd"

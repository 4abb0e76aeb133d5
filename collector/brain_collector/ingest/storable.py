"""Text that Postgres cannot store: NUL, halves of surrogate pairs, and bytes that are not UTF-8.

A line is cleaned before it is decoded, while it is still bytes, so that its numbers and everything else stay as sent.
"""

import re
from typing import Final

REPLACEMENT: Final = "\ufffd"

_BACKSLASH: Final = 92
_BAD_ESCAPES: Final = re.compile(
    rb"\\u(?:0000"  # NUL
    rb"|[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # the first half of a pair, alone
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"  # the second half, alone
)


def may_have_bad_escapes(body: bytes) -> bool:
    """Return whether escapes may stand for text that Postgres rejects."""
    if _BACKSLASH not in body:  # a memchr; the scans below took 15 % of the time to decode a batch
        return False
    return b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body


def storable(line: bytes) -> bytes:
    """Return the line with U+FFFD in the place of text that Postgres rejects; the line itself if there is none."""
    cleaned = _without_bad_escapes(line) if may_have_bad_escapes(line) else line
    try:
        cleaned.decode()
    except UnicodeDecodeError:
        cleaned = cleaned.decode("utf-8", "replace").encode()
    return line if cleaned == line else cleaned


def _without_bad_escapes(line: bytes) -> bytes:
    """Replace bad escapes. Escaped backslashes, after which a `u` begins no escape, are replaced meanwhile."""
    if b"\0" in line:  # then it is not JSON
        return line
    return _BAD_ESCAPES.sub(rb"\\ufffd", line.replace(rb"\\", b"\0\0")).replace(b"\0\0", rb"\\")

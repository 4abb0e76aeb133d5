"""Browser sessions: random tokens that stand for an API key. Only their hashes are stored, as with API keys."""

import hashlib
import re
import secrets
from datetime import datetime
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Session(NamedTuple):
    """A browser session.

    Attributes:
        sha256: The hash of its token.
        api_key_id: The id of its API key; 0 for the bootstrap key.
        scheme: The scheme of the page that began it; empty if no page did.
        began_at: When it began.
    """

    sha256: bytes
    api_key_id: int
    scheme: str
    began_at: datetime


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def hash_of(token: str, bootstrap_sha256: bytes = b"") -> bytes:
    """Return the hash of a token; that of a session with the bootstrap key also depends on that key."""
    return hashlib.sha256(token.encode() + bootstrap_sha256).digest()

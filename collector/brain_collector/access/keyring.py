"""API keys in memory: a key's text, or a session's token, in; the caller with its scopes out. Nothing here waits.

Only the SHA-256 of a key is kept: 256 random bits need no slow hash. The keyring has all live keys of the table as it
was last read, so that a wrong key causes no query.
"""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, get_args

import msgspec

from brain_collector.access.session import Session, hash_of, is_token
from brain_collector.errors import Unauthorized, Unavailable
from brain_collector.http.scope import Caller
from brain_collector.schema import KeyScope
from brain_collector.settings import Settings

SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
USE_INTERVAL: Final = timedelta(minutes=1)
"""Minimum interval between two writes of the last use of a key."""

_TEXT: Final = re.compile(r"be_([a-z][a-z0-9]{7})_[0-9a-f]{64}", re.ASCII)
_KEY_CALLER: Final = "key:"
_NO_KEY: Final = secrets.token_bytes(32)
"""The digest of no key: unknown keys are compared with it, so that they take the same time."""


BOOTSTRAP: Final = Caller("bootstrap", frozenset(SCOPES))
OPEN: Final = Caller("open", frozenset(SCOPES))
"""The caller of a collector that requires no API key."""
BOOTSTRAP_ID: Final = 0
"""Names the bootstrap key where API keys of the table are named by their ids, which begin at 1."""


class Key(msgspec.Struct, frozen=True):
    """An API key of the table: the columns that are needed to check one."""

    id: int
    prefix: str
    sha256: bytes
    scopes: frozenset[KeyScope]
    expires_at: datetime | None


class Secret(NamedTuple):
    """A new API key. Its text is returned once and never stored."""

    text: str
    prefix: str
    sha256: bytes


def generate() -> Secret:
    """Generate a new API key."""
    prefix = secrets.choice(string.ascii_lowercase)  # a letter, so that no prefix looks like an id
    prefix += "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(7))
    text = f"be_{prefix}_{secrets.token_hex(32)}"
    return Secret(text, prefix, _digest(text))


def prefix_of(text: str) -> str | None:
    """Return the prefix in a key's text; None if it does not have the form of a generated key."""
    match = _TEXT.fullmatch(text)
    return match and match[1]


def key_prefix(caller: Caller) -> str:
    """Return the prefix of the API key of a caller that has one of the table."""
    return caller.name.removeprefix(_KEY_CALLER)


class Keyring:
    """The API keys that this collector knows: the bootstrap key of the settings, and those of the table as last read.

    Closed by default: while it is unknown whether the table has keys, requests without one are refused.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bootstrap = None if settings.api_key is None else _digest(settings.api_key)
        self._keys: dict[str, Key] = {}
        self._by_id: dict[int, Key] = {}
        self._sessions: dict[bytes, Session] = {}
        self.reload: Callable[[], Awaitable[None]] | None = None
        """Reads the table again, at a bounded rate; set by the table."""
        self._ever_created = False
        self._table_unavailable = True
        self._read_at_s: float | None = None
        self._used: dict[int, datetime] = {}
        self._written: dict[int, datetime] = {}

    def load(self, keys: Iterable[Key], *, ever_created: bool) -> None:
        """Replace the live keys; `ever_created`: the table has keys, even if all of them are revoked or expired."""
        self._keys = {key.prefix: key for key in keys}
        self._by_id = {key.id: key for key in self._keys.values()}
        self._ever_created = ever_created
        self._table_unavailable = False
        self._read_at_s = time.monotonic()
        self._written = {id: at for id, at in self._written.items() if id in self._by_id}

    def load_sessions(self, sessions: Iterable[Session]) -> None:
        """Replace the browser sessions."""
        self._sessions = {session.sha256: session for session in sessions}

    def change_sessions(self, changes: Mapping[bytes, Session | None]) -> None:
        """Add sessions that have begun; None: the session with this hash has ended."""
        for sha256, session in changes.items():
            if session is None:
                self._sessions.pop(sha256, None)
            else:
                self._sessions[sha256] = session

    async def learn(self, token: str) -> None:
        """Read the table again if this token is unknown: its session may have begun at another collector just now."""
        is_unknown = is_token(token) and self._session_with(token) is None
        if is_unknown and self.requires_key and not self._table_unavailable and self.reload is not None:
            await self.reload()

    def mark_table_unavailable(self) -> None:
        """Note that an attempt to read the table failed."""
        self._table_unavailable = True

    @property
    def is_table_unavailable(self) -> bool:
        """Whether the last attempt to read the table failed."""
        return self._table_unavailable

    @property
    def requires_key(self) -> bool:
        """Whether an API key is known to be required. Before the table was read, one may be required all the same."""
        return self._bootstrap is not None or self._settings.require_api_key or self._ever_created

    @property
    def has_no_valid_key(self) -> bool:
        """Whether an API key is required, and no valid one exists."""
        return self.requires_key and self._bootstrap is None and not self._table_unavailable and not self._keys

    def caller(self, api_key: str | None) -> Caller:
        """Return the caller with this API key; None: the request has no key.

        Raises:
            Unauthorized: the key is wrong, expired or revoked, or a required key is missing.
            Unavailable: the key cannot be checked while the table cannot be read.
        """
        prefix = key = None
        if api_key:
            digest, prefix = _digest(api_key), prefix_of(api_key)
            if hmac.compare_digest(digest, self._bootstrap or _NO_KEY):
                return BOOTSTRAP
            key = None if prefix is None else self._keys.get(prefix)
            if hmac.compare_digest(digest, key.sha256 if key else _NO_KEY) and key is not None:
                return self._caller_with(key)
        if not self.requires_key:
            if not self._is_current:
                raise self._unavailable("it is unknown whether an API key is required")
            return OPEN
        if api_key is None:
            raise Unauthorized("the request has no API key")
        if self._table_unavailable and prefix is not None and key is None:
            raise self._unavailable(f"the API key be_{prefix} is unknown, but may be new")
        raise Unauthorized("the API key is wrong or revoked")

    def _caller_with(self, key: Key) -> Caller:
        if not self._is_current:
            raise self._unavailable(f"the API key be_{key.prefix} may have been revoked")
        now = datetime.now(UTC)
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized(f"the API key be_{key.prefix} expired at {key.expires_at.isoformat()}; create a new one")
        self._used[key.id] = now
        return Caller(f"{_KEY_CALLER}{key.prefix}", key.scopes)

    def new_session(self, caller: Caller, token: str, scheme: str) -> Session:
        """Return a new session of a caller that has just shown its API key."""
        now = datetime.now(UTC)
        if caller is BOOTSTRAP:
            return Session(hash_of(token, self._bootstrap or b""), BOOTSTRAP_ID, scheme, now)
        return Session(hash_of(token), self._keys[key_prefix(caller)].id, scheme, now)

    def session_hashes(self, token: str) -> list[bytes]:
        """Return the possible hashes of a session with this token: with a key of the table, with the bootstrap key."""
        return [hash_of(token), hash_of(token, self._bootstrap or b"")]

    def session(self, token: str) -> Session:
        """Return the live session with this token.

        Raises:
            Unauthorized: the token is wrong, or the session has ended or expired.
            Unavailable: the token cannot be checked while the table cannot be read.
        """
        session = self._session_with(token)
        if session is None and self._table_unavailable and is_token(token):
            raise self._unavailable("the browser session is unknown, but may be new")
        life = timedelta(days=self._settings.session_life_days)
        if session is None or session.began_at + life <= datetime.now(UTC):
            raise Unauthorized("the browser session has ended")
        if not self._is_current:
            raise self._unavailable("the browser session may have ended")
        return session

    def caller_of(self, session: Session) -> Caller:
        """Return the caller with the API key of a session.

        Raises:
            Unauthorized: the API key was revoked or has expired.
            Unavailable: see `caller`.
        """
        if session.api_key_id == BOOTSTRAP_ID:
            return BOOTSTRAP
        key = self._by_id.get(session.api_key_id)
        if key is None:
            raise Unauthorized("the API key of the browser session was revoked")
        return self._caller_with(key)

    def _session_with(self, token: str) -> Session | None:
        known = (self._sessions.get(sha256) for sha256 in self.session_hashes(token))
        return next(filter(None, known), None)

    def unwritten_uses(self) -> dict[int, datetime]:
        """Return the time of the last use by key, for those that are due: each is written at most once a minute."""
        return {
            id: at for id, at in self._used.items() if id not in self._written or at - self._written[id] >= USE_INTERVAL
        }

    def mark_written(self, uses: dict[int, datetime]) -> None:
        """Note that these uses are in the table."""
        self._written |= uses
        self._used = {id: at for id, at in self._used.items() if uses.get(id) != at}

    @property
    def _is_current(self) -> bool:
        """Whether the keys were read recently enough to be trusted."""
        return self._read_at_s is not None and time.monotonic() - self._read_at_s <= self._settings.api_key_grace_s

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable(
            f"{reason}: the table of API keys cannot be read; try again", retry_after_s=self._settings.retry_after_s
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()

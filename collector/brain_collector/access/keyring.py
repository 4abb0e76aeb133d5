"""API keys: the text that a caller sends in, who that is and what it may do out. Nothing here waits for anything.

Of a key only the SHA-256 is kept: 256 random bits need no slow hash. The ring is the whole table of live keys as it
was last read, so a wrong key costs no query.
"""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, get_args

import msgspec

from brain_collector.errors import Unauthorized, Unavailable
from brain_collector.http.scope import Caller
from brain_collector.schema import KeyScope
from brain_collector.settings import Settings

SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
USE_NOTED_EVERY: Final = timedelta(minutes=1)

_TEXT: Final = re.compile(r"be_([a-z][a-z0-9]{7})_[0-9a-f]{64}", re.ASCII)
_NO_KEY: Final = secrets.token_bytes(32)
"""The digest of no text: what is compared with where there is no key, so that it takes as long."""


BOOTSTRAP: Final = Caller("bootstrap", frozenset(SCOPES))
OPEN: Final = Caller("open", frozenset(SCOPES))
"""Anyone, at a collector that has no key."""


class Key(msgspec.Struct, frozen=True):
    """One key of the table, as far as it is needed to recognise it."""

    id: int
    prefix: str
    sha256: bytes
    scopes: frozenset[KeyScope]
    expires_at: datetime | None


class Secret(NamedTuple):
    """A key that was just drawn: its text is shown once and kept nowhere."""

    text: str
    prefix: str
    sha256: bytes


def draw() -> Secret:
    """Return a new key."""
    prefix = secrets.choice(string.ascii_lowercase)  # so that a prefix is never mistaken for an id
    prefix += "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(7))
    text = f"be_{prefix}_{secrets.token_hex(32)}"
    return Secret(text, prefix, _digest(text))


def prefix_of(text: str) -> str | None:
    """Return the prefix of a key's text; None when it has not the form of one from the table."""
    found = _TEXT.fullmatch(text)
    return found and found[1]


class Keyring:
    """The keys that are known here: the bootstrap key of the settings, and the table's as last read.

    Closed when in doubt: as long as it is not known whether there are keys, they are needed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bootstrap = None if settings.api_key is None else _digest(settings.api_key)
        self._keys: dict[str, Key] = {}
        self._ever_made = False
        self._away = True
        self._read_at_s: float | None = None
        self._used: dict[int, datetime] = {}
        self._noted: dict[int, datetime] = {}

    def table_read(self, keys: Iterable[Key], *, ever_made: bool) -> None:
        """Take over the live keys; `ever_made` says whether the table has any, be they revoked or expired."""
        self._keys = {key.prefix: key for key in keys}
        self._ever_made = ever_made
        self._away = False
        self._read_at_s = time.monotonic()
        live = {key.id for key in self._keys.values()}
        self._noted = {id: at for id, at in self._noted.items() if id in live}

    def table_away(self) -> None:
        """Note that the table cannot be read."""
        self._away = True

    @property
    def is_away(self) -> bool:
        """Whether the table could not be read when it was tried last."""
        return self._away

    @property
    def needs_none(self) -> bool:
        """Whether no key is known of that a caller would need. There may be some, as long as the table is away."""
        return not self._required

    @property
    def lacks_any(self) -> bool:
        """Whether keys are needed and nobody can have one."""
        return self._required and self._bootstrap is None and not self._away and not self._keys

    def caller(self, given: str | None) -> Caller:
        """Return who sends this key; None is no key at all.

        Raises:
            Unauthorized: it is wrong, expired, revoked, or needed and not there.
            Unavailable: that cannot be told while the table cannot be read.
        """
        digest = _digest(given or "")
        if hmac.compare_digest(digest, self._bootstrap or _NO_KEY) and given:
            return BOOTSTRAP
        prefix = prefix_of(given or "")
        key = None if prefix is None else self._keys.get(prefix)
        if hmac.compare_digest(digest, key.sha256 if key else _NO_KEY) and key is not None:
            return self._known(key)
        if not self._required:
            if not self._table_holds:
                raise self._unavailable("whether keys are needed cannot be told")
            return OPEN
        if given is None:
            raise Unauthorized("there is no API key")
        if self._away and prefix is not None and key is None:
            raise self._unavailable(f"the API key be_{prefix} is not known here, and may be new")
        raise Unauthorized("the API key is wrong or revoked")

    def _known(self, key: Key) -> Caller:
        if not self._table_holds:
            raise self._unavailable(f"the API key be_{key.prefix} may have been revoked")
        now = datetime.now(UTC)
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized(f"the API key be_{key.prefix} expired at {key.expires_at.isoformat()}; have one made")
        self._used[key.id] = now
        return Caller(f"key:{key.prefix}", key.scopes)

    def uses(self) -> dict[int, datetime]:
        """Return the keys whose last use is to be written now, with its time: each at most once a minute."""
        return {
            id: at for id, at in self._used.items() if id not in self._noted or at - self._noted[id] >= USE_NOTED_EVERY
        }

    def uses_written(self, uses: dict[int, datetime]) -> None:
        """Note that they are written."""
        self._noted |= uses
        self._used = {id: at for id, at in self._used.items() if uses.get(id) != at}

    @property
    def _required(self) -> bool:
        return self._bootstrap is not None or self._settings.require_api_key or self._ever_made

    @property
    def _table_holds(self) -> bool:
        """Whether what was read of the table can still be gone by."""
        return self._read_at_s is not None and time.monotonic() - self._read_at_s <= self._settings.api_key_grace_s

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(
            f"{why}: the table of keys cannot be read; try again", retry_after_s=self._settings.retry_after_s
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()

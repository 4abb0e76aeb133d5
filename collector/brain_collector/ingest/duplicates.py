"""Duplicates: recognizes a request that was stored before, and an idempotency key that was used for another body.

- The same idempotency key with the same body, read in the same form, is a duplicate, whoever sends it: an outbox is
  sent again under another API key when keys are rotated.
- The same idempotency key with another body is refused for the caller that used it. For another caller it is another
  batch, so a caller cannot occupy, or find out about, the idempotency keys of others.

A row of `batches` has the idempotency key as its primary key, and `request_hash`, a keyed hash of idempotency key and
body, which is unique too. If another caller has used the idempotency key, the primary key of the row is derived from
idempotency key and caller instead.

Collectors of the release before 0.2.0 compare `digest`, which is a checksum and can be forged; they write no
`request_hash`. So their rows are compared by `digest`, and `digest` is still written.
"""

import hashlib
import zlib
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol
from uuid import UUID

Form = Literal["event", "lines", "array", "object"]
"""How a body is read: the same bytes can be a single event, NDJSON or a JSON array, with other events in them.

`object` is a batch of one event that is written on several lines.
"""

_FORM_CODES: Final[dict[Form, bytes]] = {"event": b"1", "lines": b"n", "array": b"a", "object": b"o"}


class Fingerprint(NamedTuple):
    """A digest and a hash of the body of a request, and how it is read.

    Attributes:
        digest: Length and CRC-32, as in a gzip trailer; negative for a single event.
        sha256: The SHA-256.
        form: How the body is read.
    """

    digest: int
    sha256: bytes
    form: Form


class KeyUse(NamedTuple):
    """The use of an idempotency key by a caller, for a body."""

    key: UUID
    caller: str
    fingerprint: Fingerprint


def fingerprint_of(body: bytes, form: Form) -> Fingerprint:
    """Return the fingerprint of a body that is read in this form."""
    digest = len(body) << 32 | zlib.crc32(body)
    return Fingerprint(-digest if form == "event" else digest, hashlib.sha256(body).digest(), form)


def request_hash(hash_key: bytes, use: KeyUse) -> UUID:
    """Return a hash of idempotency key, body and form, the same for every caller."""
    form, sha256 = use.fingerprint.form, use.fingerprint.sha256
    return _uuid(hash_key, b"request", use.key.bytes + _FORM_CODES[form] + sha256)


def key_of_caller(hash_key: bytes, use: KeyUse) -> UUID:
    """Return the primary key of a row whose idempotency key is taken by another caller."""
    return _uuid(hash_key, b"caller", use.key.bytes + use.caller.encode())


def _uuid(hash_key: bytes, purpose: bytes, content: bytes) -> UUID:
    return UUID(bytes=hashlib.blake2b(content, digest_size=16, key=hash_key, person=purpose).digest())


class Verdict(Enum):
    """The relation of a request to the row that has its idempotency key or its hash."""

    STORED = "it is the row of this request"
    DUPLICATE = "the row has the same idempotency key and body"
    REUSED = "this caller used the idempotency key for another body"
    TAKEN = "another caller used the idempotency key for another body"


class Row(Protocol):
    """The columns of a row of `batches` that are compared."""

    @property
    def digest(self) -> int:
        """The checksum."""

    @property
    def request_hash(self) -> UUID | None:
        """The keyed hash; None if the request had no idempotency key, or was stored by a release before 0.2.0."""

    @property
    def caller(self) -> str | None:
        """The caller; None in the same cases."""

    @property
    def first_id(self) -> int:
        """The id of the first event."""


def compare(new: Row, existing: Row) -> Verdict:
    """Compare a request with the row that prevented it from being stored, or that it stored itself."""
    if existing.request_hash is None:
        is_same = existing.digest == new.digest
    else:
        is_same = existing.request_hash == new.request_hash
    if not is_same:
        return Verdict.REUSED if existing.caller in {None, new.caller} else Verdict.TAKEN
    # Ids are drawn once, and kept when a transaction is retried.
    return Verdict.STORED if existing.first_id == new.first_id else Verdict.DUPLICATE

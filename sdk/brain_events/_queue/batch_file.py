"""The file format of the outbox: one `Batch` per file, which describes itself.

    {"version":2,"key":"0192…","destination":"https://…","created":1767225600.0,"encoding":"gzip","count":500,…}
    <the body, exactly as it is sent>

A *sealed* file has count, lengths and CRC in its header. A *journal* is written event by event and lacks them: after
each line break comes one event, and a line that is not a complete event was torn when the process died. The rest of a
preallocated file is zero bytes.
"""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH104, PTH108, PTH118

import errno
import os
import stat
import zlib
from typing import Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from brain_events._queue.batch import Batch, seal
from brain_events.wire import Event

VERSION = 2
"""Version 1 is the same, but before 0.1.0 its CRC covered the body only. Both are read."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""A larger file was not written by this module, and is not read into memory."""
HEADER_BYTES = 8 * 1024


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The header of a sealed file has this part; `crc32` covers the header, with 0 in its place, and the body."""

    count: int
    line_bytes: int
    body_bytes: int
    crc32: int


class Header(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The first line of a file; `created` is in seconds since 1970."""

    version: int
    key: UUID
    destination: str
    created: float
    encoding: Literal["gzip", "identity"] = "identity"
    seal: Seal | None = None


class _Versioned(msgspec.Struct):
    """The member that the first line has in every version of the format."""

    version: int


class DamagedError(Exception):
    """A file is not as this module writes it; the text gives the reason."""


class NewerError(DamagedError):
    """A file was written by a later version of this module, and must be neither read nor removed."""


def encode_sealed(batch: Batch, destination: str, created: float) -> bytes:
    """Return the file of `batch`."""
    header = Header(
        version=VERSION,
        key=batch.key,
        destination=destination,
        created=created,
        encoding="gzip" if batch.gzipped else "identity",
        seal=Seal(batch.count, batch.line_bytes, len(batch.body), crc32=0),
    )
    crc32 = _crc32(header, batch.body)
    return msgspec.json.encode(_with_crc32(header, crc32)) + b"\n" + batch.body


def encode_journal(key: UUID, destination: str, created: float) -> bytes:
    """Return the header of a journal; each event follows as a line break and a line."""
    return msgspec.json.encode(Header(VERSION, key, destination, created))


def decode_header(data: bytes) -> Header:
    """Return the header of a file that begins with `data`.

    Raises:
        NewerError: A later version wrote the file.
        DamagedError: The header cannot be read.
    """
    line = _lines(data).partition(b"\n")[0]
    try:
        version = msgspec.json.decode(line, type=_Versioned).version
        if version > VERSION:
            raise NewerError(f"version {version}; this one reads {VERSION}")
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"the header cannot be read: {error}") from error
    if header.version < 1:
        raise DamagedError(f"version {header.version}; this one reads 1 to {VERSION}")
    return header


def decode(data: bytes) -> Batch:
    """Return the batch of a file; reading a file again gives the same key and the same events.

    Raises:
        NewerError: A later version wrote the file.
        DamagedError: The file cannot be read.
    """
    header = decode_header(data)
    body = data.partition(b"\n")[2]
    if header.seal is None:
        return seal(events_of(data), header.key)
    crc32s = {_crc32(_with_crc32(header, 0), body)} | ({zlib.crc32(body)} if header.version == 1 else set())
    if len(body) != header.seal.body_bytes or header.seal.crc32 not in crc32s:
        raise DamagedError(f"the body has {len(body)} bytes of {header.seal.body_bytes}, or its CRC differs")
    return Batch(header.key, body, header.encoding == "gzip", header.seal.count, header.seal.line_bytes)


def events_of(data: bytes) -> list[bytes]:
    """Return the complete events of a journal.

    A zero byte is where a line was not written yet: at the end of the file, or, as a process can be killed while it
    copies a line, before the rest of it.
    """
    return [line for line in _lines(data).partition(b"\n")[2].splitlines() if _is_event(line)]


def inspect(path: str) -> tuple[Header, int]:
    """Return the header of a file and the number of its events; those of a journal are counted one by one.

    Raises:
        NewerError: A later version wrote the file.
        DamagedError: The file cannot be read.
        OSError: The disk failed, or the file does not exist any more.
    """
    header = decode_header(read(path, HEADER_BYTES))
    return header, header.seal.count if header.seal else decode(read(path)).count


def read(path: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the first `max_bytes` of a regular file.

    Raises:
        DamagedError: The path is not a regular file, or it is too large.
        OSError: The file cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedError("it is a symbolic link") from error
        raise
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_FILE_BYTES:
            raise DamagedError("it is not a regular file, or larger than any file of an outbox")
        with os.fdopen(file, "rb", closefd=False) as reader:
            return reader.read(max_bytes)
    finally:
        os.close(file)


def write(path: str, data: bytes, *, fsync: bool) -> None:
    """Write a new file atomically; with `fsync` it is complete or absent even after a power loss."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.tmp")
    # Not O_EXCL: a disk that failed in the middle may have kept the file of an earlier attempt.
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as writer:
            writer.write(data)
            writer.flush()
            if fsync:
                os.fsync(file)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if fsync:
        fsync_directory(directory)


def fsync_directory(path: str) -> None:
    """Make the names in a directory survive a power loss."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _with_crc32(header: Header, crc32: int) -> Header:
    assert header.seal is not None
    return replace(header, seal=replace(header.seal, crc32=crc32))


def _crc32(header: Header, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(msgspec.json.encode(header)))


def _lines(data: bytes) -> bytes:
    return data.replace(b"\0", b"\n")


def _is_event(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True

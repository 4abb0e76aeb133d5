"""Request bodies: received and inflated, within limits of size and time."""

import asyncio
import codecs
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final

from starlette.requests import ClientDisconnect, Request

from brain_collector.errors import BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia
from brain_collector.http.admission import Reservation
from brain_collector.http.body_threads import BodyThreads
from brain_collector.http.scope import context_of
from brain_collector.settings import Settings

INLINE_BYTES: Final = 256 * 2**10
"""Maximum size of a body that is inflated and decoded in the event loop; a larger one is sent to a thread.

A batch of 1,000 ordinary events is smaller. Whatever it contains, it takes some tens of milliseconds at most.
"""
INLINE_GZIP_BYTES: Final = 64 * 2**10
"""Maximum size of gzip that is inflated in the event loop: also what inflates to nothing takes time."""
PROGRESS_BYTES: Final = 32 * 2**10
"""The least progress of a body in `body_stall_s`; of a large one, its part of the announced size if that is more."""
MEMORY_FACTOR: Final = 3
"""Memory of a body and of the rows decoded from it, per byte of the body (measured: 1,000 events, five details)."""
EXPECTED_RATIO: Final = 10
"""Assumed compression ratio of gzip, until the inflated size is known."""
INFLATE_STEP: Final = 2**20
"""Maximum number of bytes that a thread inflates in one call, and of bytes that they become."""
_GZIP: Final = 16 + zlib.MAX_WBITS


async def body_of(request: Request, settings: Settings, reservation: Reservation, threads: BodyThreads) -> bytes:
    """Return the body, inflated and without a byte order mark. The reservation accounts for its memory.

    Access is checked again once the body is complete: a slow request must not take effect after a revocation.

    Raises:
        Unauthorized, Forbidden: access was revoked while the body was received.
        BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia: see these errors.
        Unavailable: the budget for requests in progress is exceeded.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding") or ["identity"]).strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMedia(f"Content-Encoding is {encoding[:40]!r}; send gzip or identity")
    try:
        body = await _receive(request, settings, reservation, gzipped=encoding == "gzip")
    except ClientDisconnect:
        raise BodyUndecodable("the client disconnected before the end of the body") from None
    if encoding == "gzip":
        body = await _inflate(body, settings.max_inflated_bytes, reservation, threads)
    body = body.removeprefix(codecs.BOM_UTF8)
    reservation.resize(MEMORY_FACTOR * len(body))
    context_of(request.scope).check_again()
    return body


async def _receive(request: Request, settings: Settings, reservation: Reservation, *, gzipped: bool) -> bytes:
    """Receive the body, and hold the memory that it is expected to need: by its size, or by what has come of it."""
    max_bytes = settings.max_body_bytes
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else 0
    if announced > max_bytes:
        raise BodyTooLarge(f"the body is {announced:,} bytes, the maximum is {max_bytes:,}; send smaller batches")

    def needed(n_bytes: int) -> int:
        return MEMORY_FACTOR * min(n_bytes * (EXPECTED_RATIO if gzipped else 1), settings.max_inflated_bytes)

    context = context_of(request.scope)
    if context.is_body_complete:
        body = await _complete(request, max_bytes)
        await reservation.wait_for(needed(len(body)), context.connection.disconnected)
        return body
    await reservation.wait_for_announced(needed(announced), context.connection.disconnected)
    with reservation.arriving():
        return await _arriving(request, settings, reservation, announced)


async def _complete(request: Request, max_bytes: int) -> bytes:
    """Return a body that has arrived completely, so that no deadline is needed."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message["body"]
    _refuse_too_large(len(body), max_bytes)
    return body


async def _arriving(request: Request, settings: Settings, reservation: Reservation, announced: int) -> bytes:
    """Return a body that arrives in parts, each in its time: a slow client would hold memory for nothing."""
    chunks = []
    stall_s, whole_s = settings.body_stall_s, settings.body_deadline_s
    step = max(PROGRESS_BYTES, int(announced * min(1.0, stall_s / whole_s)))
    received, next_mark = 0, step
    now_s = asyncio.get_running_loop().time
    stop_at_s = now_s() + whole_s
    try:
        async with asyncio.timeout_at(min(stop_at_s, now_s() + stall_s)) as deadline:
            async for chunk in request.stream():
                received += len(chunk)
                _refuse_too_large(received, settings.max_body_bytes)
                reservation.come(MEMORY_FACTOR * received)
                chunks.append(chunk)
                if received >= next_mark:
                    next_mark = received + step
                    deadline.reschedule(min(stop_at_s, now_s() + stall_s))
    except TimeoutError:
        raise BodyTooSlow(
            f"the body took longer than {whole_s:g} s, or made less than {step:,} bytes of progress in {stall_s:g} s"
        ) from None
    return b"".join(chunks)


def _refuse_too_large(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise BodyTooLarge(f"the body is larger than {max_bytes:,} bytes; send smaller batches")


async def _inflate(body: bytes, max_bytes: int, reservation: Reservation, threads: BodyThreads) -> bytes:
    """Inflate the beginning here, and the rest in a thread, where it blocks no other request.

    Memory is reserved step by step, since the size is not known before.
    """
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        parts = [inflater.decompress(body[:INLINE_GZIP_BYTES], INLINE_BYTES)]
        n_read, n_bytes = INLINE_GZIP_BYTES, len(parts[0])
        while n_bytes <= max_bytes and not inflater.eof and (inflater.unconsumed_tail or n_read < len(body)):
            step = min(INFLATE_STEP, max_bytes + 1 - n_bytes)
            reservation.grow_to(n_bytes + step)
            source = inflater.unconsumed_tail
            if not source:
                source = body[n_read : n_read + INFLATE_STEP]
                n_read += INFLATE_STEP
            parts.append(await threads.run(partial(_inflate_step, inflater, source, step)))
            n_bytes += len(parts[-1])
        inflated = b"".join(parts)
    except zlib.error as error:
        raise BodyUndecodable(f"the body is not valid gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise BodyTooLarge(f"the body inflates to more than {max_bytes:,} bytes; send smaller batches")
    if not inflater.eof:
        raise BodyUndecodable("the gzip body is truncated")
    if n_unused := len(inflater.unused_data) + len(body[n_read:]):
        raise BodyUndecodable(f"the gzip body is followed by {n_unused:,} other bytes")
    return inflated


def _inflate_step(inflater: "zlib._Decompress", source: bytes, max_bytes: int, _check: Callable[[], None]) -> bytes:
    return inflater.decompress(source, max_bytes)


def media_type(request: Request, *accepted: str) -> str:
    """Return the body's media type, without parameters.

    Raises:
        UnsupportedMedia: it is not one of `accepted`.
    """
    header = request.headers.get("content-type", "")
    media_type = header.partition(";")[0].strip().lower()
    if media_type not in accepted:
        raise UnsupportedMedia(f"Content-Type is {header[:80]!r}; send {' or '.join(accepted)}")
    return media_type


def accepts_gzip(request: Request) -> bool:
    """Return whether the client accepts gzip."""
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return any(coding.partition(";")[0] == "gzip" and not coding.endswith(("q=0", "q=0.0")) for coding in codings)

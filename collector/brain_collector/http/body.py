"""Request bodies: bytes off the socket in, inflated bytes out, within limits of size and time."""

import asyncio
import zlib
from typing import Final

from starlette.requests import ClientDisconnect, Request

from brain_collector.errors import BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia
from brain_collector.http.admission import Reservation
from brain_collector.http.scope import context_of
from brain_collector.settings import Settings

USUAL_BYTES: Final = 2 * 2**20
PROGRESS_BYTES: Final = 32 * 2**10
_GZIP: Final = 16 + zlib.MAX_WBITS
WEIGHT: Final = 3
"""The memory of a body and of the rows decoded from it, in bodies (measured: 1,000 events with five details)."""
USUAL_RATIO: Final = 10
"""The compression ratio of events with gzip; what a body really inflates to is known later."""


async def body_of(request: Request, settings: Settings, reservation: Reservation) -> bytes:
    """Return the body, inflated; its bytes count against the collector's budget while the reservation is held.

    Raises:
        BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia: as their names say.
        Unavailable: Other requests hold too much.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding") or ["identity"]).strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMedia(f"Content-Encoding is {encoding[:40]!r}; send gzip or identity")
    try:
        body = await _receive(request, settings, reservation, gzipped=encoding == "gzip")
    except ClientDisconnect:
        raise BodyUndecodable("the client disconnected before the end of the body") from None
    if encoding == "gzip":
        body = await _inflate(body, settings.max_inflated_bytes, reservation)
    reservation.resize(WEIGHT * len(body))
    return body


async def _receive(request: Request, settings: Settings, reservation: Reservation, *, gzipped: bool) -> bytes:
    max_bytes = settings.max_body_bytes
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    if declared > max_bytes:
        raise BodyTooLarge(f"the body is {declared:,} bytes, the maximum is {max_bytes:,}; send smaller batches")
    expected = WEIGHT * min(declared * (USUAL_RATIO if gzipped else 1), settings.max_inflated_bytes)
    context = context_of(request.scope)
    await reservation.wait_for(expected, context.connection.disconnected)
    if context.is_body_complete:
        return await _complete(request, max_bytes, reservation)
    chunks = []
    received, next_mark = 0, PROGRESS_BYTES
    now_s = asyncio.get_running_loop().time
    stop_at_s = now_s() + settings.body_deadline_s
    try:
        async with asyncio.timeout_at(min(stop_at_s, now_s() + settings.body_stall_s)) as deadline:
            async for chunk in request.stream():
                received += len(chunk)
                _refuse_too_large(received, max_bytes)
                reservation.grow_to(received)  # a chunked body does not declare its length
                chunks.append(chunk)
                if received >= next_mark:  # a client that sends too little in too long holds memory for nothing
                    next_mark = received + PROGRESS_BYTES
                    deadline.reschedule(min(stop_at_s, now_s() + settings.body_stall_s))
    except TimeoutError:
        raise BodyTooSlow(
            f"the body took longer than {settings.body_deadline_s:g} s, or made less than {PROGRESS_BYTES:,} bytes of "
            f"progress in {settings.body_stall_s:g} s"
        ) from None
    return b"".join(chunks)


async def _complete(request: Request, max_bytes: int, reservation: Reservation) -> bytes:
    """Return a body that has arrived already: there is nothing to wait for, so there is no deadline."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message["body"]
    _refuse_too_large(len(body), max_bytes)
    reservation.grow_to(len(body))
    return body


def _refuse_too_large(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise BodyTooLarge(f"the body is larger than {max_bytes:,} bytes; send smaller batches")


async def _inflate(body: bytes, max_bytes: int, reservation: Reservation) -> bytes:
    """Inflate a usual body at once, and the rest of an unusual one in a thread: it would block every other request."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        inflated = inflater.decompress(body, USUAL_BYTES)
        if inflater.unconsumed_tail:
            room = max(1, max_bytes + 1 - len(inflated))
            reservation.grow_to(max_bytes)  # before its size is known: the largest that it may have
            inflated += await asyncio.to_thread(inflater.decompress, inflater.unconsumed_tail, room)
    except zlib.error as error:
        raise BodyUndecodable(f"the body is not valid gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise BodyTooLarge(f"the body inflates to more than {max_bytes:,} bytes; send smaller batches")
    if not inflater.eof:
        raise BodyUndecodable("the gzip body is truncated")
    if inflater.unused_data:
        raise BodyUndecodable(f"{len(inflater.unused_data):,} bytes follow the gzip body")
    return inflated


def media_type(request: Request, *accepted: str) -> str:
    """Return the body's media type, without parameters.

    Raises:
        UnsupportedMedia: It is not one of `accepted`.
    """
    header = request.headers.get("content-type", "")
    media_type = header.partition(";")[0].strip().lower()
    if media_type not in accepted:
        raise UnsupportedMedia(f"Content-Type is {header[:80]!r}; send {' or '.join(accepted)}")
    return media_type


def accepts_gzip(request: Request) -> bool:
    """Return whether the response may be gzip."""
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return any(coding.partition(";")[0] == "gzip" and not coding.endswith(("q=0", "q=0.0")) for coding in codings)

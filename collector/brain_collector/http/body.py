"""Request bodies: bytes off the socket in, inflated bytes out, within limits of size and time."""

import asyncio
import zlib
from typing import Final

from starlette.requests import ClientDisconnect, Request

from brain_collector.errors import BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia
from brain_collector.http.admission import Reservation
from brain_collector.http.client_connection import line_of
from brain_collector.settings import Settings

ARRIVED: Final = "brain_collector.arrived"
"""In the scope of a request whose body is there, all of it."""
USUAL_BYTES: Final = 2 * 2**20
PROGRESS_BYTES: Final = 32 * 2**10
_GZIP: Final = 16 + zlib.MAX_WBITS
WEIGHT: Final = 3
"""What a body and the rows it is decoded to weigh together, in bodies (measured: 1,000 events with five details)."""
USUAL_RATIO: Final = 10
"""Of gzip, with events; what a body really inflates to is known later."""


async def body_of(request: Request, settings: Settings, share: Reservation) -> bytes:
    """Return the body, inflated; its bytes count against the collector's budget for as long as the share is held.

    Raises:
        BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia: as their names say.
        Unavailable: too much is being received or written already.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding") or ["identity"]).strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMedia(f"Content-Encoding is {encoding[:40]!r}; send gzip or identity")
    try:
        body = await _receive(request, settings, share, gzipped=encoding == "gzip")
    except ClientDisconnect:
        raise BodyUndecodable("the client went away before the end of the body") from None
    if encoding == "gzip":
        body = await _inflate(body, settings.max_inflated_bytes, share)
    share.resize(WEIGHT * len(body))
    return body


async def _receive(request: Request, settings: Settings, share: Reservation, *, gzipped: bool) -> bytes:
    max_bytes = settings.max_body_bytes
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    if declared > max_bytes:
        raise BodyTooLarge(f"the body is {declared:,} bytes, at most {max_bytes:,} are taken; send smaller batches")
    likely = WEIGHT * min(declared * (USUAL_RATIO if gzipped else 1), settings.max_inflated_bytes)
    await share.admit(likely, line_of(request.scope).left)
    if request.scope.get(ARRIVED):
        return await _arrived(request, max_bytes, share)
    chunks = []
    received, wanted = 0, PROGRESS_BYTES
    now = asyncio.get_running_loop().time
    stop_at = now() + settings.body_deadline_s
    try:
        async with asyncio.timeout_at(min(stop_at, now() + settings.body_stall_s)) as limit:
            async for chunk in request.stream():
                received += len(chunk)
                _refuse_too_large(received, max_bytes)
                share.resize(max(received, share.taken))  # of a body whose length was not told
                chunks.append(chunk)
                if received >= wanted:  # who sends too little in too long a time holds memory for nothing
                    wanted = received + PROGRESS_BYTES
                    limit.reschedule(min(stop_at, now() + settings.body_stall_s))
    except TimeoutError:
        raise BodyTooSlow(
            f"the body took longer than {settings.body_deadline_s:g} s, or came on by less than "
            f"{PROGRESS_BYTES:,} bytes in {settings.body_stall_s:g} s"
        ) from None
    return b"".join(chunks)


async def _arrived(request: Request, max_bytes: int, share: Reservation) -> bytes:
    """Return a body that is there: nobody is waited for, so there is no deadline."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message["body"]
    _refuse_too_large(len(body), max_bytes)
    share.resize(max(len(body), share.taken))
    return body


def _refuse_too_large(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise BodyTooLarge(f"the body is over {max_bytes:,} bytes; send smaller batches")


async def _inflate(body: bytes, max_bytes: int, share: Reservation) -> bytes:
    """Inflate a usual body at once, and what is left of an unusual one in a thread: it would hold up everyone else."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        inflated = inflater.decompress(body, USUAL_BYTES)
        if inflater.unconsumed_tail:
            room = max(1, max_bytes + 1 - len(inflated))
            share.resize(max(max_bytes, share.taken))  # before it is known how much comes: all of it
            inflated += await asyncio.to_thread(inflater.decompress, inflater.unconsumed_tail, room)
    except zlib.error as error:
        raise BodyUndecodable(f"the body is no gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise BodyTooLarge(f"the body inflates to over {max_bytes:,} bytes; send smaller batches")
    if not inflater.eof:
        raise BodyUndecodable("the gzip body is cut off")
    if inflater.unused_data:
        raise BodyUndecodable(f"{len(inflater.unused_data):,} bytes follow the gzip body")
    return inflated


def media_type(request: Request, *accepted: str) -> str:
    """Return the body's media type, without parameters.

    Raises:
        UnsupportedMedia: it is none of `accepted`.
    """
    given = request.headers.get("content-type", "")
    found = given.partition(";")[0].strip().lower()
    if found not in accepted:
        raise UnsupportedMedia(f"Content-Type is {given[:80]!r}; send {' or '.join(accepted)}")
    return found


def takes_gzip(request: Request) -> bool:
    """Tell whether the answer may be gzip."""
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return any(coding.partition(";")[0] == "gzip" and not coding.endswith(("q=0", "q=0.0")) for coding in codings)

"""Request bodies: bytes off the socket in, inflated bytes out, within limits of size and time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from brain_collector.auth import caller_of
from brain_collector.budget import Budget, Share
from brain_collector.errors import BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia
from brain_collector.settings import Settings

USUAL_BYTES: Final = 2 * 2**20
PROGRESS_BYTES: Final = 32 * 2**10
_GZIP: Final = 16 + zlib.MAX_WBITS
WEIGHT: Final = 3
"""What a body and the rows it is decoded to weigh together, in bodies (measured: 1,000 events with five details)."""
USUAL_RATIO: Final = 10
"""Of gzip, with events; what a body really inflates to is known later."""


@asynccontextmanager
async def body_of(request: Request, settings: Settings, budget: Budget) -> AsyncIterator[bytes]:
    """Yield the body, inflated; until the end of the block its bytes count against the collector's budget.

    Raises:
        BodyTooLarge, BodyTooSlow, BodyUndecodable, UnsupportedMedia: as their names say.
        Unavailable: too much is being received or written already.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding") or ["identity"]).strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMedia(f"Content-Encoding is {encoding[:40]!r}; send gzip or identity")
    with budget.share() as share:
        try:
            body = await _receive(request, settings, share, gzipped=encoding == "gzip")
        except ClientDisconnect:
            raise BodyUndecodable("the client went away in the middle of the body") from None
        if encoding == "gzip":
            body = await _inflate(body, settings.max_inflated_bytes, share)
        share.resize(WEIGHT * len(body))
        yield body


async def _receive(request: Request, settings: Settings, share: Share, *, gzipped: bool) -> bytes:
    max_bytes = settings.max_body_bytes
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    if declared > max_bytes:
        raise BodyTooLarge(f"the body is {declared:,} bytes, at most {max_bytes:,} are taken; send smaller batches")
    await share.admit(WEIGHT * min(declared * (USUAL_RATIO if gzipped else 1), settings.max_inflated_bytes))
    chunks = []
    received, wanted = 0, PROGRESS_BYTES
    now = asyncio.get_running_loop().time
    stop_at = now() + settings.body_deadline_s
    try:
        async with asyncio.timeout_at(min(stop_at, now() + settings.body_stall_s)) as limit:
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise BodyTooLarge(f"the body is over {max_bytes:,} bytes; send smaller batches")
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


async def _inflate(body: bytes, max_bytes: int, share: Share) -> bytes:
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


def sender_of(request: Request) -> str:
    """Return who sent the request: the name of the key, and the address at the other end."""
    return f"{caller_of(request.scope)} at {request.client.host if request.client else 'an unknown address'}"


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

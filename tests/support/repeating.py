"""Servers that refuse every client, and repeat in the error whatever it sent: a Redis and a PostgreSQL."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_SEND_THE_PASSWORD = b"R" + struct.pack("!II", 8, 3)


@asynccontextmanager
async def repeating_redis() -> AsyncIterator[str]:
    """Yield the address of a Redis that knows no command; of each, it quotes all that the connection has sent."""

    async def talk(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        sent = b""
        while chunk := await reading.read(65536):
            sent += chunk
            quoted = b" ".join(b"'%s'" % word for word in sent.split(b"\r\n"))
            writing.write(b"-ERR unknown command, with args beginning with: %s\r\n" % quoted * chunk.count(b"*"))

    async with _listening(talk) as address:
        yield address


@asynccontextmanager
async def repeating_postgres() -> AsyncIterator[str]:
    """Yield the address of a PostgreSQL that asks for the password, and quotes it in message, detail and hint."""

    async def talk(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        if await reading.read(65536) == _SSL_REQUEST:
            writing.write(b"N")
            await reading.read(65536)
        writing.write(_SEND_THE_PASSWORD)
        sent = (await reading.read(65536)).strip(b"\x00")
        fields = b"SFATAL\x00C28P01\x00" + b"".join(b"%crepeats %s\x00" % (code, sent[5:]) for code in b"MDH")
        writing.write(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\x00")

    async with _listening(talk) as address:
        yield address


@asynccontextmanager
async def _listening(talk: Talk) -> AsyncIterator[str]:
    async def handle(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await talk(reading, writing)
        writing.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

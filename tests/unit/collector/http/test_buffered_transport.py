"""The outlet: everything arrives, in its order, whether something follows the head or not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from brain_collector.http.buffered_transport import BufferedTransport

pytestmark = pytest.mark.anyio
HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


@asynccontextmanager
async def outlet() -> AsyncIterator[tuple[BufferedTransport, asyncio.StreamReader]]:
    """Yield an outlet, and where what is written to it arrives."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield BufferedTransport(transport, loop), reader
    finally:
        transport.abort()
        writer.close()
        await writer.wait_closed()


async def test_a_head_and_its_body_arrive_in_their_order() -> None:
    async with outlet() as (out, reader):
        for _ in range(2):
            out.write(HEAD)
            out.write(BODY)

            assert await reader.readexactly(len(HEAD + BODY)) == HEAD + BODY


async def test_a_head_arrives_though_nothing_follows_it() -> None:
    async with outlet() as (out, reader):
        out.write(HEAD)

        assert await reader.readexactly(len(HEAD)) == HEAD


async def test_parts_that_come_one_by_one_arrive_in_their_order() -> None:
    async with outlet() as (out, reader):
        for number in range(100):
            out.write(b"%d," % number)
            if number % 3 == 0:
                await asyncio.sleep(0)
        out.close()

        assert await reader.read() == b"".join(b"%d," % number for number in range(100))


async def test_what_was_kept_arrives_before_the_end() -> None:
    async with outlet() as (out, reader):
        out.write(HEAD)
        out.close()

        assert await reader.read() == HEAD
        assert out.is_closing()

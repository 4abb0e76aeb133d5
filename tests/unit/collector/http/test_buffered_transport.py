"""The buffered transport: everything arrives in order, whether or not a body follows the head."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from brain_collector.http.buffered_transport import BufferedTransport

pytestmark = pytest.mark.anyio
HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


@asynccontextmanager
async def buffered() -> AsyncIterator[tuple[BufferedTransport, asyncio.StreamReader]]:
    """Yield a buffered transport, and a reader at the other end of its connection."""
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


async def test_a_head_and_its_body_arrive_in_order() -> None:
    async with buffered() as (transport, reader):
        for _ in range(2):
            transport.write(HEAD)
            transport.write(BODY)

            assert await reader.readexactly(len(HEAD + BODY)) == HEAD + BODY


async def test_a_head_arrives_if_no_body_follows() -> None:
    async with buffered() as (transport, reader):
        transport.write(HEAD)

        assert await reader.readexactly(len(HEAD)) == HEAD


async def test_parts_that_are_written_one_by_one_arrive_in_order() -> None:
    async with buffered() as (transport, reader):
        for number in range(100):
            transport.write(b"%d," % number)
            if number % 3 == 0:
                await asyncio.sleep(0)
        transport.close()

        assert await reader.read() == b"".join(b"%d," % number for number in range(100))


async def test_the_buffer_is_written_before_the_connection_is_closed() -> None:
    async with buffered() as (transport, reader):
        transport.write(HEAD)
        transport.close()

        assert await reader.read() == HEAD
        assert transport.is_closing()

"""A transport that sends the head of a response together with its body, in one system call."""

import asyncio


class BufferedTransport:
    """The transport that uvicorn writes a response to. A separate system call for the head would double the cost."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._buffer: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write the buffer and the data; if the buffer is empty, keep the data until the end of the loop's turn."""
        if self._buffer is None:
            self._buffer = data
            self._loop.call_soon(self.flush)
        else:
            buffered, self._buffer = self._buffer, None
            self._transport.writelines([buffered, data])

    def flush(self) -> None:
        """Write the buffer."""
        buffered, self._buffer = self._buffer, None
        if buffered is not None and not self.is_closing():
            self._transport.write(buffered)

    def close(self) -> None:
        """Write the buffer, and close the transport once everything is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self._transport.is_closing()

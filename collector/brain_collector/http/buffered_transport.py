"""Where an answer is written to: its head waits for the body that follows, and both leave with one system call."""

import asyncio


class BufferedTransport:
    """What uvicorn takes for the transport of an answer. It writes the head by itself, which costs as much again."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write data behind what was kept; if nothing was, keep them for this turn of the loop."""
        if self._kept is None:
            self._kept = data
            self._loop.call_soon(self.flush)
        else:
            kept, self._kept = self._kept, None
            self._transport.writelines([kept, data])

    def flush(self) -> None:
        """Write what was kept: nothing follows it now."""
        kept, self._kept = self._kept, None
        if kept is not None and not self.is_closing():
            self._transport.write(kept)

    def close(self) -> None:
        """Close the transport, once all is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the transport is closed, or about to be."""
        return self._transport.is_closing()

"""Stands between applications and a collector, and knows which requests have no answer yet."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Passes bytes both ways at `url`, on a loop of its own thread.

    `in_flight` requests wait for an answer; `cut` is how many the collector took and ended without one. It counts for
    clients that send a request a connection at a time.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.in_flight = self.cut = 0
        self._refusing = False
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._upstream = (parts.hostname, parts.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def refuse(self) -> None:
        """End every connection and each new one, until `restore`."""
        self._refusing = True
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def restore(self) -> None:
        """Pass bytes again."""
        self._refusing = False

    def close(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._ended)  # also if it is cancelled before it begins

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task).close()

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _cut(self) -> None:
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            return
        connecting = asyncio.ensure_future(asyncio.open_connection(*self._upstream))
        try:
            answers, collector = await asyncio.shield(connecting)
        except OSError:  # it does not serve just now
            return
        except asyncio.CancelledError:  # a connection that is made just now would be forgotten
            connecting.add_done_callback(_close_made)
            raise
        asked = False

        async def ask() -> None:
            nonlocal asked
            while chunk := await reader.read(64 * 1024):
                self.in_flight += not asked
                asked = True
                collector.write(chunk)
                await collector.drain()

        async def answer() -> None:
            nonlocal asked
            with suppress(ConnectionError):
                while chunk := await answers.read(64 * 1024):
                    self.in_flight -= asked
                    asked = False
                    writer.write(chunk)
                    await writer.drain()
            self.cut += asked

        tasks = [asyncio.ensure_future(each()) for each in (ask, answer)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done() and not tasks[1].done() and tasks[0].exception():  # writing failed: the end is near
                await tasks[1]
        finally:
            self.in_flight -= asked
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            collector.close()


def _close_made(connecting: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].close()


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """Yield a relay to the collector at `url`."""
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.close()

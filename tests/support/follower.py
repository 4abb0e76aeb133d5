"""A client that follows the tail by server-sent events or a WebSocket, and reconnects when it is cut."""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from tests.support.waiting import PATIENCE_S

Kind = Literal["stream", "ws"]
PAUSE_S = 0.05


class Follower:
    """A thread that keeps what came. With `again`, it comes back with the last id whenever the stream ends.

    `ends` is how each stream ended: `whole`, `cut`, `left` or `refused`; `told` has the data of each gap.
    """

    def __init__(self, url: str, kind: Kind, source: str, *, again: bool) -> None:
        self.events: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.ends: list[str] = []
        self.ready = threading.Event()
        self._url = f"{url}/api/events/{kind}?source={source}"
        self._follow = self._by_stream if kind == "stream" else self._by_socket
        self._again = again
        self.last_id = ""
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def ids(self) -> list[int]:
        return [each["id"] for each in self.events]

    @property
    def gaps(self) -> int:
        """The number of gaps."""
        return len(self.told)

    @property
    def numbers(self) -> list[int]:
        return [each["details"]["number"] for each in self.events]

    def leave(self) -> None:
        """Hang up, in the middle of what is said."""
        self._leave.set()

    def close(self) -> None:
        """Come back no more."""
        self._again = False
        self._leave.set()

    def join(self) -> None:
        """Return when the stream has ended, and it does not come back."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the stream does not end"

    def _work(self) -> None:
        while True:
            self._leave.clear()
            self.ends.append(self._follow())
            if not self._again:
                return
            time.sleep(PAUSE_S)

    def _by_stream(self) -> str:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        try:
            with httpx.stream("GET", self._url, headers=headers, timeout=PATIENCE_S) as response:
                if response.status_code != 200:
                    return "refused"
                return self._take(_messages(response.iter_lines()))
        except httpx.TransportError:
            return "cut"

    def _by_socket(self) -> str:
        url = self._url.replace("http://", "ws://") + (f"&last_event_id={self.last_id}" if self.last_id else "")
        try:
            with connect(url, proxy=None, open_timeout=PATIENCE_S, ping_timeout=None) as socket:
                return self._take(json.loads(text) for text in socket)
        except ConnectionClosedOK:
            return "whole"
        except ConnectionClosed as closed:
            return "whole" if closed.rcvd is not None and closed.rcvd.code == 1012 else "cut"
        except InvalidStatus:
            return "refused"
        except (OSError, EOFError):
            return "cut"

    def _take(self, messages: Iterable[dict[str, Any]]) -> str:
        for message in messages:
            self.events += message["data"] if message["event"] == "events" else []
            self.told += [message["data"]] if message["event"] == "gap" else []
            self.last_id = message["id"]
            self.ready.set()
            if self._leave.is_set():
                return "left"
        return "whole"


def _messages(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Take a stream of server-sent events apart; a message counts when the empty line behind it has come."""
    fields: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "event" in fields:
            yield fields | {"data": json.loads(fields["data"]) if fields.get("data") else None}
            fields = {}


@contextmanager
def following(url: str, kind: Kind, source: str = "tail", *, again: bool = False) -> Iterator[Follower]:
    """Have somebody follow, from before the block until after it."""
    follower = Follower(url, kind, source, again=again)
    try:
        assert follower.ready.wait(PATIENCE_S), f"the stream does not begin: {follower.ends}"
        yield follower
    finally:
        follower.close()

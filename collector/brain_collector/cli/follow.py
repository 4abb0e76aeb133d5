"""A collector's stream as a command follows it: what was there, what arrives, and on from there after every break.

Nothing is lost or comes twice. The place to go on from is noted only when what came before it has been printed; what
is listed (the beginning, and gaps of the stream) and comes by the stream, too, is known by its id.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from brain_collector.cli.client import Client, NoAnswer, Refused, Unreachable, pauses
from brain_collector.cli.commands.query import EVENTS, listed
from brain_collector.cli.render import Found, events

STREAM: Final = f"{EVENTS}/stream"
SILENCE_S: Final = 60.0
"""How long a stream may say nothing before it is taken for dead; a collector's heartbeat comes every 15 s."""
MOST_OF_GAP: Final = 20_000
"""Most events of a gap that are listed; of the rest it is said where they are."""
_REMEMBERED: Final = 100_000

Parameters = list[tuple[str, str]]
Say = Callable[[str], None]


class Frame(NamedTuple):
    """A message of the stream."""

    name: str
    id: str
    data: bytes


class Gap(msgspec.Struct, frozen=True):
    """What the stream left out: so many events of any kind, within these times."""

    arrived: int
    since: str | None
    until: str | None


def frames(pieces: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the messages of a stream; comments and what has no name are passed over."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for message in whole:
            fields = {name: value.removeprefix(b" ") for name, _, value in _partitioned(message)}
            if b"event" in fields:
                yield Frame(fields[b"event"].decode(), fields.get(b"id", b"").decode(), fields.get(b"data", b""))


def _partitioned(message: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (line.partition(b":") for line in message.split(b"\n"))


class Follower:
    """Follows one filter at one collector; `say` is told what the user should know of the connection."""

    def __init__(self, client: Client, wanted: Parameters, say: Say) -> None:
        self._client = client
        self._wanted = wanted
        self._say = say
        self._place: str | None = None
        self._seen: set[int] = set()
        self._order: deque[int] = deque()

    def batches(self, beginning: Callable[[], list[Found]]) -> Iterator[list[Found]]:
        """Yield events to print, for ever: first `beginning()`, asked for when the stream is open, then what arrives.

        Raises:
            ClientError: there was no stream at all, or it is refused for good.
        """
        waits, lost = pauses(), ""
        while True:
            try:
                headers = {"Last-Event-ID": self._place} if self._place else {}
                with self._client.streamed(STREAM, self._wanted, headers=headers, silence_s=SILENCE_S) as pieces:
                    for frame in frames(pieces):
                        if frame.name != "ready":
                            waits = pauses()  # a stream that ends where it begins is not asked for at once
                        elif lost:
                            self._say("connected again")
                        lost = ""
                        yield self._new(self._found(frame, beginning))
                        self._place = frame.id or self._place  # now that all before it is printed
                broken = "the collector ended the stream"
            except (Unreachable, Refused) as error:
                if self._place is None or (isinstance(error, Refused) and not error.temporary):
                    raise
                broken = str(error)
            if not lost:
                self._say(f"{broken}; connecting again")
            lost = broken
            time.sleep(next(waits))

    def _found(self, frame: Frame, beginning: Callable[[], list[Found]]) -> list[Found]:
        if frame.name == "ready":
            return beginning() if self._place is None else []
        if frame.name == "events":
            return events(frame.data)
        if frame.name == "gap":
            return self._of_gap(msgspec.json.decode(frame.data, type=Gap))
        return []

    def _of_gap(self, gap: Gap) -> list[Found]:
        """List what the stream left out, and say what of it is not shown."""
        if gap.since is None or gap.until is None:
            return []
        between = [("from", gap.since), ("to", gap.until)]
        where = f"look with `brain-events query --since {gap.since} --until {gap.until}`"
        try:
            found = list(listed(self._client, [*self._wanted, *between], MOST_OF_GAP + 1))
        except NoAnswer:
            raise
        except Refused as error:
            if error.temporary:
                raise
            self._say(f"up to {gap.arrived:,} events arrived too fast, and cannot be listed: {error}; {where}")
            return []
        if len(found) > MOST_OF_GAP:
            found = found[:MOST_OF_GAP]
            self._say(f"{gap.arrived:,} events arrived too fast; the newest {MOST_OF_GAP:,} are shown; {where}")
        return found[::-1]

    def _new(self, found: list[Found]) -> list[Found]:
        """Leave out what was printed before."""
        fresh = [each for each in found if each.id not in self._seen]
        for each in fresh:
            self._seen.add(each.id)
            self._order.append(each.id)
            if len(self._order) > _REMEMBERED:
                self._seen.discard(self._order.popleft())
        return fresh

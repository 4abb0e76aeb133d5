"""Follows a collector's stream: existing events first, then new ones, resumed after every broken connection.

No event is lost or printed twice. The position to resume from is advanced only after everything before it has been
printed. Events that are listed (the existing ones, and gaps of the stream) and also arrive by the stream are
recognised by id.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from brain_collector.cli.client import Client, NoResponse, Refused, Unreachable, backoff
from brain_collector.cli.commands.query import EVENTS, list_events
from brain_collector.cli.render import StoredEvent, decode_events

STREAM: Final = f"{EVENTS}/stream"
SILENCE_S: Final = 60.0
"""Silence after which a stream counts as dead; a collector sends a heartbeat every 15 s."""
MAX_GAP_EVENTS: Final = 20_000
"""Maximum number of events of a gap that are listed; for the others, a command that lists them is printed."""
_REMEMBERED_IDS: Final = 100_000

Parameters = list[tuple[str, str]]
Notify = Callable[[str], None]


class Frame(NamedTuple):
    """A message of the stream."""

    name: str
    id: str
    data: bytes


class Gap(msgspec.Struct, frozen=True):
    """A gap of the stream: how many events (of any kind) it left out, and the range of their times."""

    arrived: int
    since: str | None
    until: str | None


def frames(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the messages of a stream; comments and messages without a name are skipped."""
    rest = b""
    for chunk in chunks:
        *messages, rest = (rest + chunk).split(b"\n\n")
        for message in messages:
            fields = {name: value.removeprefix(b" ") for name, _, value in _split_fields(message)}
            if b"event" in fields:
                yield Frame(fields[b"event"].decode(), fields.get(b"id", b"").decode(), fields.get(b"data", b""))


def _split_fields(message: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (line.partition(b":") for line in message.split(b"\n"))


class Follower:
    """Follows one filter on one collector; `notify` receives messages about the connection for the user."""

    def __init__(self, client: Client, parameters: Parameters, notify: Notify) -> None:
        self._client = client
        self._parameters = parameters
        self._notify = notify
        self._position: str | None = None
        self._printed: set[int] = set()
        self._print_order: deque[int] = deque()

    def batches(self, list_existing: Callable[[], list[StoredEvent]]) -> Iterator[list[StoredEvent]]:
        """Yield events to print, without end: those of `list_existing`, called once the stream is open, then new ones.

        Raises:
            ClientError: the stream could not be opened at all, or is refused permanently.
        """
        pauses, last_problem = backoff(), ""
        while True:
            try:
                headers = {"Last-Event-ID": self._position} if self._position else {}
                with self._client.stream(STREAM, self._parameters, headers=headers, silence_s=SILENCE_S) as chunks:
                    for frame in frames(chunks):
                        if frame.name != "ready":
                            pauses = backoff()  # `ready` alone does not reset it: a stream may end right after it
                        elif last_problem:
                            self._notify("connected again")
                        last_problem = ""
                        yield self._not_yet_printed(self._events_of(frame, list_existing))
                        self._position = frame.id or self._position  # everything before it has been printed now
                problem = "the collector ended the stream"
            except (Unreachable, Refused) as error:
                if self._position is None or (isinstance(error, Refused) and not error.temporary):
                    raise
                problem = str(error)
            if not last_problem:
                self._notify(f"{problem}; connecting again")
            last_problem = problem
            time.sleep(next(pauses))

    def _events_of(self, frame: Frame, list_existing: Callable[[], list[StoredEvent]]) -> list[StoredEvent]:
        if frame.name == "ready":
            return list_existing() if self._position is None else []
        if frame.name == "events":
            return decode_events(frame.data)
        if frame.name == "gap":
            return self._events_of_gap(msgspec.json.decode(frame.data, type=Gap))
        return []

    def _events_of_gap(self, gap: Gap) -> list[StoredEvent]:
        """List the events that the stream left out; notify the user of those that are not printed."""
        if gap.since is None or gap.until is None:
            return []
        time_range = [("from", gap.since), ("to", gap.until)]
        advice = f"list them with `brain-events query --since {gap.since} --until {gap.until}`"
        try:
            events = list(list_events(self._client, [*self._parameters, *time_range], MAX_GAP_EVENTS + 1))
        except NoResponse:
            raise
        except Refused as error:
            if error.temporary:
                raise
            self._notify(f"about {gap.arrived:,} events were left out, and could not be listed ({error}); {advice}")
            return []
        if len(events) > MAX_GAP_EVENTS:
            events = events[:MAX_GAP_EVENTS]
            self._notify(
                f"about {gap.arrived:,} events were left out; only the newest {MAX_GAP_EVENTS:,} are printed; {advice}"
            )
        return events[::-1]

    def _not_yet_printed(self, events: list[StoredEvent]) -> list[StoredEvent]:
        """Return the events that have not been printed, and remember them."""
        new_events = [event for event in events if event.id not in self._printed]
        for event in new_events:
            self._printed.add(event.id)
            self._print_order.append(event.id)
            if len(self._print_order) > _REMEMBERED_IDS:
                self._printed.discard(self._print_order.popleft())
        return new_events

"""The ids of new events: drawn from the database's sequence in blocks, from which batches take consecutive ids."""

from typing import Final
from weakref import WeakSet

import asyncpg

from brain_collector.settings import ID_BLOCK
from brain_collector.storage import epochs
from brain_collector.storage.durability import DURABLE

_NEXT_BLOCK: Final = f"SELECT nextval('system_events_id_seq') WHERE {DURABLE}"


class EventIds:
    """The block of the writers of one collector.

    A standby that is promoted may draw the blocks again that the lost primary had drawn. So a block is dropped when a
    writer opens a connection: the next one comes from the server that is the primary now. And the epoch is known
    before, which makes the sequence leave out every block that was drawn on the server before.
    """

    def __init__(self) -> None:
        self._next_id = self._end_id = 0
        self._known: WeakSet[asyncpg.Connection] = WeakSet()

    async def enter(self, connection: asyncpg.Connection) -> None:
        """Prepare a connection for its first write; drop the block, which came from another connection."""
        if connection not in self._known:
            self._end_id = self._next_id
            await epochs.ensure(connection)
            self._known.add(connection)

    async def draw(self, connection: asyncpg.Connection, n: int) -> int:
        """Return the first of n consecutive ids; the rest of a block that is too short is left unused."""
        if self._end_id - self._next_id < n:
            await epochs.ensure(connection)  # a pooler may have changed the server under the connection
            start = int(await connection.fetchval(_NEXT_BLOCK))
            self._next_id, self._end_id = start, start + ID_BLOCK
        first_id = self._next_id
        self._next_id += n
        return first_id

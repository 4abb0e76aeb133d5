"""The pieces of the commit order that have arrived, and that have not been passed on to every group of subscribers."""

from bisect import bisect_right
from operator import attrgetter

from brain_collector.tail.commit_order import Piece
from brain_collector.tail.position import Position


class Arrivals:
    """Pieces in commit order, and the number of their events."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self.n = 0

    def add(self, arrived: list[Piece]) -> None:
        """Add the pieces that follow."""
        self._pieces += arrived
        self.n += sum(piece.n for piece in arrived)

    def after(self, position: Position) -> list[Piece]:
        """Return the pieces without what is at or before a position."""
        pieces = self._pieces[self._index(position) :]
        if pieces and pieces[0].xid == position.xid:
            pieces[0] = pieces[0]._replace(first_id=max(pieces[0].first_id, position.id + 1))
        return pieces

    def forget(self, until: Position) -> None:
        """Delete the pieces that end at or before a position."""
        index = self._index(until)
        self.n -= sum(piece.n for piece in self._pieces[:index])
        del self._pieces[:index]

    def clear(self) -> None:
        """Delete all pieces."""
        self._pieces.clear()
        self.n = 0

    def _index(self, position: Position) -> int:
        return bisect_right(self._pieces, position, key=attrgetter("end"))

"""Which connections are closed when the heads that arrive in parts are too large together."""

from brain_collector.http.arriving_heads import ArrivingHeads


class FakeConnection:
    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def test_the_oldest_heads_make_room_until_the_others_fit() -> None:
    refused: list[str] = []
    heads = ArrivingHeads(100, refused.append)
    connections = first, second, third, fourth = [FakeConnection() for _ in range(4)]
    heads.add(first, 40)
    heads.add(second, 30)
    heads.add(third, 30)
    heads.remove(second)  # it is complete
    heads.add(first, 30)
    assert not any(connection.is_aborted for connection in connections)

    heads.add(fourth, 60)

    assert [connection.is_aborted for connection in connections] == [True, False, False, False]
    heads.add(fourth, 10)  # the first counts no more
    assert refused == ["heads_too_large"]


def test_a_head_that_is_too_large_alone_is_closed() -> None:
    heads = ArrivingHeads(100, lambda _reason: None)
    connection = FakeConnection()

    heads.add(connection, 101)

    assert connection.is_aborted
    heads.remove(connection)
    heads.add(FakeConnection(), 100)

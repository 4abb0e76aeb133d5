"""The connection limit: which connections are admitted, and which are closed to make room."""

from brain_collector.http.connection_limit import RESERVE, Admission, ConnectionLimit
from brain_collector.metrics import Metrics


class FakeConnection:
    """A connection, as the limit knows it."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def test_the_connection_that_has_been_idle_longest_makes_room() -> None:
    limit = ConnectionLimit(3, Metrics())
    first, second, _third, fourth = connections = [FakeConnection() for _ in range(4)]
    for connection in connections[:3]:
        assert limit.admit(connection) is Admission.FREE
    limit.mark_active(first)
    limit.mark_idle(second)  # it had a request, and is idle again

    assert limit.admit(fourth) is Admission.FREE
    assert [connection.is_aborted for connection in connections] == [False, False, True, False]


def test_a_connection_whose_body_arrives_makes_room_after_every_idle_one() -> None:
    limit = ConnectionLimit(3, Metrics())
    arriving, idle, active, *newcomers = connections = [FakeConnection() for _ in range(6)]
    for connection in connections[:3]:
        limit.admit(connection)
    limit.mark_arriving(arriving)
    limit.mark_active(active)

    limit.admit(newcomers[0])
    limit.mark_active(newcomers[0])
    assert [connection.is_aborted for connection in (arriving, idle, active)] == [False, True, False]
    limit.release(idle)
    assert limit.admit(newcomers[1]) is Admission.FREE
    limit.mark_active(newcomers[1])
    assert (arriving.is_aborted, active.is_aborted) == (True, False)
    limit.release(arriving)
    assert limit.admit(newcomers[2]) is Admission.CROWDED


def test_if_all_are_active_the_oldest_idle_one_of_the_reserve_makes_room_before_any_is_refused() -> None:
    limit = ConnectionLimit(2, Metrics())
    active = [FakeConnection() for _ in range(2)]
    for connection in active:
        limit.admit(connection)
        limit.mark_active(connection)
    reserve = [FakeConnection() for _ in range(RESERVE)]
    assert {limit.admit(connection) for connection in reserve} == {Admission.CROWDED}

    assert limit.admit(FakeConnection()) is Admission.CROWDED
    assert [connection.is_aborted for connection in reserve] == [True] + [False] * (RESERVE - 1)
    limit.release(reserve[0])
    newest = FakeConnection()
    for connection in reserve[1:]:
        limit.mark_active(connection)
    assert limit.admit(newest) is Admission.CROWDED  # the one admitted before it is closed
    limit.mark_active(newest)
    assert limit.admit(FakeConnection()) is Admission.FULL
    assert not any(connection.is_aborted for connection in active)


def test_a_released_connection_makes_room() -> None:
    limit = ConnectionLimit(1, Metrics())
    first, second, third = FakeConnection(), FakeConnection(), FakeConnection()
    limit.admit(first)
    limit.mark_active(first)
    assert limit.admit(second) is Admission.CROWDED
    limit.release(second)
    limit.release(first)

    assert limit.admit(third) is Admission.FREE
    assert limit.n_open == 1

"""The connection limit: which connections are admitted, and which are closed to make room."""

from brain_collector.http.connection_limit import RESERVE, Admission, ConnectionLimit
from brain_collector.metrics import Metrics


class Guest:
    """A connection, as the door knows it."""

    def __init__(self) -> None:
        self.was_shed = False

    def shed(self) -> None:
        self.was_shed = True


def test_the_one_who_has_waited_longest_makes_room() -> None:
    door = ConnectionLimit(3, Metrics())
    first, second, _third, fourth = guests = [Guest() for _ in range(4)]
    for guest in guests[:3]:
        assert door.enter(guest) is Admission.FREE
    door.works(first)
    door.waits(second)  # it had a request, and now waits anew

    assert door.enter(fourth) is Admission.FREE
    assert [guest.was_shed for guest in guests] == [False, False, True, False]


def test_where_all_work_the_reserve_is_asked_and_its_oldest_makes_room_before_anyone_is_sent_away() -> None:
    door = ConnectionLimit(2, Metrics())
    working = [Guest() for _ in range(2)]
    for guest in working:
        door.enter(guest)
        door.works(guest)
    asked = [Guest() for _ in range(RESERVE)]
    assert {door.enter(guest) for guest in asked} == {Admission.CROWDED}

    assert door.enter(Guest()) is Admission.CROWDED
    assert [guest.was_shed for guest in asked] == [True] + [False] * (RESERVE - 1)
    door.leave(asked[0])
    newest = Guest()
    for guest in asked[1:]:
        door.works(guest)
    assert door.enter(newest) is Admission.CROWDED  # the one who came before it is shed
    door.works(newest)
    assert door.enter(Guest()) is Admission.FULL
    assert not any(guest.was_shed for guest in working)


def test_who_leaves_leaves_a_place() -> None:
    door = ConnectionLimit(1, Metrics())
    first, second, third = Guest(), Guest(), Guest()
    door.enter(first)
    door.works(first)
    assert door.enter(second) is Admission.CROWDED
    door.leave(second)
    door.leave(first)

    assert door.enter(third) is Admission.FREE
    assert door.inside == 1

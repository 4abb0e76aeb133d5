"""Links and directories that another user plants: the SDK touches no file outside its outbox, and loses no event."""

import os
from pathlib import Path

import pytest

from brain_events._queue.outbox import KEPT_REJECTED
from tests.support.sdk import fast_client
from tests.support.sink import Sink, problem
from tests.support.waiting import PATIENCE_S, wait_until

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A directory elsewhere, whose files have names of every kind, also those of batches."""
    path = tmp_path / "documents"
    path.mkdir()
    for n in range(30):
        (path / f"{n:08x}-0000-7000-8000-000000000000.batch").touch()
        (path / f"letter-{n}.txt").touch()
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir(mode=0o700)
    return path


@pytest.mark.parametrize("durable", [False, True])
def test_a_link_in_place_of_a_folder_is_not_followed(
    spool: Path, documents: Path, sink: Sink, *, durable: bool
) -> None:
    (spool / "rejected").symlink_to(documents)
    (spool / "damaged").symlink_to(documents)
    before = sorted(documents.iterdir())
    sink.always = problem(422, "batch_invalid")
    with fast_client(sink.url, spool_dir=str(spool), durable=durable) as client:
        for n in range(KEPT_REJECTED + 2):
            client.log("a", "info", str(n))
            assert client.flush(PATIENCE_S)
        assert client.stats().rejected == KEPT_REJECTED + 2

    assert sorted(documents.iterdir()) == before


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2770, 0o720])
def test_a_directory_that_others_may_write_to_is_not_used_and_events_stay_in_memory(
    spool: Path, documents: Path, sink: Sink, caplog: pytest.LogCaptureFixture, mode: int, *, durable: bool
) -> None:
    (spool / "rejected").symlink_to(documents)
    spool.chmod(mode)
    before = sorted(documents.iterdir())
    sink.always = (503, {}, b"")
    with fast_client(sink.url, spool_dir=str(spool), durable=durable) as client:
        client.log("a", "info", "kept")
        wait_until(lambda: "the outbox cannot be used" in caplog.text)
        sink.always = None
        assert client.flush(PATIENCE_S)

    assert [event.message for event in sink.events] == ["kept"]
    assert [path.name for path in spool.iterdir()] == ["rejected"]
    assert sorted(documents.iterdir()) == before
    assert f"has mode {mode:04o}, but only this user" in caplog.text


@is_root
def test_a_link_of_another_user_in_place_of_the_directory_is_not_followed(
    spool: Path, tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "link"
    link.symlink_to(spool)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    sink.always = (503, {}, b"")
    with fast_client(sink.url, spool_dir=str(link)) as client:
        client.log("a", "info", "kept")
        wait_until(lambda: "is a link that is not followed" in caplog.text)
        sink.always = None
        assert client.flush(PATIENCE_S)

    assert list(spool.iterdir()) == []


@is_root
def test_a_directory_of_another_user_is_neither_used_nor_adopted_from(
    spool: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.always = (503, {}, b"")
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        client.log("a", "info", "left behind")
        wait_until(lambda: client.stats().spooled == 1)
    os.chown(spool, 65534, 65534)
    sink.always = None
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        client.log("a", "info", "mine")
        assert client.flush(PATIENCE_S)
        assert client.stats().adopted == 0
    assert [event.message for event in sink.events] == ["mine"]

    os.chown(spool, os.geteuid(), os.getegid())
    with fast_client(sink.url, spool_dir=str(spool)) as client:
        client.log("a", "info", "mine again")
        wait_until(lambda: client.stats().adopted == 1 and client.stats().delivered == 2)
    assert sorted(event.message for event in sink.events) == ["left behind", "mine", "mine again"]

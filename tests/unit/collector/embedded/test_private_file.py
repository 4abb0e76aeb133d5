"""Files of the data directory: no link is followed, and nothing that somebody else put there is written."""

import os
from pathlib import Path

import pytest

from brain_collector.embedded import DataDirError, datadir
from brain_collector.embedded.private_file import open_private
from brain_collector.embedded.supervisor import Owner, spawn

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
OTHER_UID = 65_534


def use(data_dir: Path) -> None:
    with datadir.opened(data_dir):
        pass


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("precious")
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def test_a_planted_lock_does_not_overwrite_the_file_it_leads_to(data_dir: Path, precious: Path) -> None:
    (data_dir / "lock").symlink_to(precious)

    with pytest.raises(DataDirError, match="lock is a symbolic link"):
        use(data_dir)
    assert precious.read_text() == "precious"


def test_a_planted_log_gets_no_line(data_dir: Path, precious: Path) -> None:
    log = data_dir / "postgres.log"
    log.symlink_to(precious)

    with pytest.raises(DataDirError, match=r"postgres\.log is a symbolic link"):
        spawn(("/bin/echo", "hello"), log, Owner("me", os.geteuid(), os.getegid()), 15)  # type: ignore[arg-type]
    assert precious.read_text() == "precious"


def test_another_name_of_a_file_is_refused_and_so_is_a_pipe(data_dir: Path, precious: Path) -> None:
    (data_dir / "name").hardlink_to(precious)
    os.mkfifo(data_dir / "pipe")

    with pytest.raises(DataDirError, match="no regular file of its own"):
        os.close(open_private(data_dir / "name", os.O_RDWR))
    with pytest.raises(DataDirError, match="no regular file of its own"):
        os.close(open_private(data_dir / "pipe", os.O_RDWR))


@needs_root
def test_root_does_not_write_into_a_file_or_directory_of_another_user(data_dir: Path) -> None:
    (data_dir / "lock").touch()
    os.chown(data_dir / "lock", OTHER_UID, OTHER_UID)
    with pytest.raises(DataDirError, match=f"lock belongs to uid {OTHER_UID}"):
        use(data_dir)

    os.chown(data_dir, OTHER_UID, OTHER_UID)
    with pytest.raises(DataDirError, match=f"belongs to uid {OTHER_UID}, but this process runs as uid 0"):
        use(data_dir)


def test_a_directory_that_others_may_write_to_is_refused_with_the_remedy(data_dir: Path) -> None:
    data_dir.chmod(0o777)

    with pytest.raises(DataDirError, match=f"chmod go-w {data_dir}"):
        use(data_dir)


def test_new_files_are_private_and_a_directory_of_the_own_group_is_accepted(data_dir: Path) -> None:
    data_dir.chmod(0o770)
    use(data_dir)

    assert (data_dir / "lock").stat().st_mode & 0o777 == 0o600
    use(data_dir)

"""The part of an export: private while it is written, and never the file that a link of somebody else leads to."""

import os
import pty
import threading
from pathlib import Path

import click
import pytest

from brain_collector.cli import part_file

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
OTHER_UID = 65_534


def export_to(path: Path, *, resume: bool = False) -> int:
    """Write a line; return the mode of the part while it is written."""
    with part_file.open_part(path, resume=resume) as part:
        part.write(b"events\n")
        return part_file.part_of(path.resolve()).stat().st_mode & 0o777


def test_a_planted_part_is_replaced_and_the_file_it_leads_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "x.part").symlink_to(precious)
    export_to(tmp_path / "x")

    assert precious.read_text() == "precious"
    assert (tmp_path / "x").read_text() == "events\n"
    assert not (tmp_path / "x").is_symlink()


def test_a_resumed_part_is_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious\n")
    (tmp_path / "x.part").symlink_to(precious)

    with pytest.raises(click.FileError):
        export_to(tmp_path / "x", resume=True)
    assert precious.read_text() == "precious\n"


def test_a_resumed_part_has_no_other_name(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious\n")
    (tmp_path / "x.part").hardlink_to(tmp_path / "precious")

    with pytest.raises(click.FileError, match="not a file of this user"):
        export_to(tmp_path / "x", resume=True)


@needs_root
def test_a_link_of_another_user_is_not_followed_but_ones_own_is(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    export_to(link)
    assert (tmp_path / "target").read_text() == "events\n"

    os.lchown(link, OTHER_UID, OTHER_UID)
    with pytest.raises(click.FileError, match="symbolic link of another user"):
        export_to(link)


@needs_root
def test_a_pipe_of_another_user_gets_no_event(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.chown(pipe, OTHER_UID, OTHER_UID)
    (tmp_path / "link").symlink_to(pipe)
    try:
        for name in ("pipe", "link"):
            with (
                pytest.raises(click.FileError, match="special file of another user"),
                part_file.open_part(tmp_path / name, resume=False) as part,
            ):
                part.write(b"events\n")
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_an_own_pipe_and_a_terminal_of_another_user_are_written_directly(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with part_file.open_part(pipe, resume=False) as part:
        part.write(b"events\n")
    reader.join()
    assert received == [b"events\n"]

    terminal, end = pty.openpty()
    try:
        if os.geteuid() == 0:  # as under sudo
            os.chown(os.ttyname(end), OTHER_UID, OTHER_UID)
        with part_file.open_part(Path(os.ttyname(end)), resume=False) as part:
            part.write(b"events\n")
        assert os.read(terminal, 100) == b"events\r\n"
    finally:
        os.close(terminal)
        os.close(end)


@needs_root
def test_a_file_of_another_user_gives_an_export_neither_its_mode_nor_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("planted")
    file.chmod(0o666)
    os.chown(file, OTHER_UID, OTHER_UID)
    before = os.umask(0o077)
    try:
        export_to(file)
    finally:
        os.umask(before)

    status = file.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, os.geteuid())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_part_is_private_and_the_finished_file_has_the_mode_of_the_umask(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        assert export_to(tmp_path / "x") == 0o600
    finally:
        os.umask(before)

    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0o600)
    export_to(tmp_path / "x")

    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600

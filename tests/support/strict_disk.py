"""A disk that keeps of a power loss what POSIX promises and no more: synced contents under names in synced directories.

Real files and real calls; what `os.fsync` is called for is noted, and can be looked at or laid out elsewhere.
"""

# ruff: noqa: PTH116

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

Tree = dict[str, bytes]


class State(msgspec.Struct):
    """What a power loss at this moment leaves, on disk and elsewhere."""

    tree: Tree
    beside: object


class StrictDisk:
    """Notes, for each file by its inode, the content of the last fsync; for each directory, its names."""

    def __init__(self, root: Path, beside: Callable[[], object]) -> None:
        self.states: list[State] = []
        self._beside = beside
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: list[int] = []  # keeps inodes from being used again
        self._guard = threading.RLock()
        self._root = os.stat(root).st_ino
        self._fsync = os.fsync
        for directory, _, names in os.walk(root):  # what is there is on the medium
            for path in (directory, *(f"{directory}/{name}" for name in names)):
                file = os.open(path, os.O_RDONLY)
                self._note(file)
                os.close(file)

    def __enter__(self) -> Self:
        os.fsync = self._sync  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync = self._fsync
        for file in self._held:
            os.close(file)

    def look(self) -> None:
        """Keep the state of this moment, if it is a new one."""
        with self._guard:
            state = State(self._tree(self._root), self._beside())
            if not self.states or state != self.states[-1]:
                self.states.append(state)

    def _sync(self, file: int) -> None:
        with self._guard:
            self._fsync(file)
            self._note(file)
            self.look()

    def _note(self, file: int) -> None:
        self._held.append(os.dup(file))
        inode = os.fstat(file).st_ino
        if stat.S_ISDIR(os.fstat(file).st_mode):
            self._names[inode] = {name: os.stat(name, dir_fd=file).st_ino for name in os.listdir(file)}
        else:
            self._contents[inode] = Path(f"/proc/self/fd/{file}").read_bytes()

    def _tree(self, inode: int, path: str = "") -> Tree:
        if inode not in self._names:
            return {path: self._contents.get(inode, b"")} if path else {}
        tree: Tree = {f"{path}/": b""}
        for name, found in self._names[inode].items():
            tree |= self._tree(found, f"{path}/{name}")
        return tree


def lay_out(tree: Tree, root: Path) -> None:
    """Make the files of a tree below `root`."""
    for name, content in sorted(tree.items()):
        path = root / name.lstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content)

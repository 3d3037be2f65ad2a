"""A disk that forgets, at the store's one seam.

The kernel keeps what was written and named until it is synced, and a SIGKILL takes nothing of that away. A power cut
does. This disk keeps account of what would outlive one: contents as they were when they were synced, names as they were
when their directory was.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedelta_server.store._fs import FileSystem


@dataclass(frozen=True)
class Name:
    """An entry of a directory."""

    name: str
    inode: int
    is_directory: bool


class ForgetfulDisk(FileSystem):
    """Does everything on the machine's disk. `close` it at the end."""

    def __init__(self, step: Callable[[str], None]) -> None:
        """`step` is called before and after each operation, by whichever thread does it."""
        self._step = step
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, tuple[Name, ...]] = {}
        self._held: dict[int, int] = {}
        """A descriptor of each file and directory that was synced: while it is open, its inode is no other's."""

    def sync(self, path: Path) -> None:
        with self._stepping(f"sync {path}"):
            super().sync(path)
            self._contents[self._hold(path)] = path.read_bytes()

    def sync_dir(self, directory: Path) -> None:
        with self._stepping(f"sync_dir {directory}"):
            super().sync_dir(directory)
            self._names[self._hold(directory)] = tuple(listed(directory))

    def rename(self, source: Path, target: Path) -> None:
        with self._stepping(f"rename {target}"):
            super().rename(source, target)

    def write(self, fd: int, path: Path, data: memoryview | bytes, offset: int) -> None:
        with self._stepping(f"write {path}"):
            super().write(fd, path, data, offset)

    def make_dir(self, directory: Path) -> None:
        with self._stepping(f"make_dir {directory}"):
            super().make_dir(directory)

    def unlink(self, path: Path) -> None:
        with self._stepping(f"unlink {path}"):
            super().unlink(path)

    def remove_dir(self, directory: Path) -> None:
        with self._stepping(f"remove_dir {directory}"):
            super().remove_dir(directory)

    def develop(self, directory: Path, target: Path, *, keep_names: bool) -> None:
        """Makes in `target` what a power cut would leave of the directory now.

        `keep_names`: names outlive it unsynced, and contents do not, as where tables are written before the data.
        """
        names = tuple(listed(directory)) if keep_names else self._names.get(directory.stat().st_ino, ())
        self._develop(names, directory if keep_names else None, target)

    def _develop(self, names: tuple[Name, ...], now: Path | None, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for each in names:
            if each.is_directory:
                inner = self._names.get(each.inode, ()) if now is None else tuple(listed(now / each.name))
                self._develop(inner, None if now is None else now / each.name, target / each.name)
            else:
                (target / each.name).write_bytes(self._contents.get(each.inode, b""))

    def close(self) -> None:
        """Lets go of what it holds."""
        for fd in self._held.values():
            os.close(fd)

    def _hold(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return inode

    @contextmanager
    def _stepping(self, what: str) -> Iterator[None]:
        self._step(f"before {what}")
        yield
        self._step(f"after {what}")


def listed(directory: Path) -> Iterator[Name]:
    """What is in a directory now."""
    with os.scandir(directory) as entries:
        for entry in entries:
            yield Name(entry.name, entry.inode(), entry.is_dir())

"""One upload under way, and files that later uploads may overwrite."""

import itertools
import os
import threading
from pathlib import Path

from fedelta.errors import DigestMismatchError, StorageError
from fedelta_server.store._fs import FileSystem
from fedelta_server.store.io import storage_errors

_HELD = ".held"
_HELD_BYTES = 8
_MIN_SPARE_BYTES = 4 << 20
_MAX_SPARES = 64


class Spares:
    """Files that nobody needs any more, kept to be overwritten.

    A new file's pages must be found, and on a virtual machine often fetched from the host, before the first byte is
    in them; that costs several times the copying, and removing them costs again. Overwriting spares both, and what
    has its blocks already is synced without a change to the file system's own tables.
    """

    def __init__(self, directory: Path, fs: FileSystem) -> None:
        self._directory = directory
        self._fs = fs
        self._numbers = itertools.count()
        self._files: list[Path] = []
        self._lock = threading.Lock()

    def put(self, path: Path) -> None:
        """Takes a file over, or removes it where it is not worth keeping."""
        with self._lock:
            spare = self._directory / f"{next(self._numbers)}.spare"
            if len(self._files) < _MAX_SPARES and _size(path) >= _MIN_SPARE_BYTES:
                self._fs.rename(path, spare)
                self._files.append(spare)
            else:
                self._fs.unlink(path)

    def take(self, length: int) -> Path | None:
        """Gives away a file for an upload of so many bytes. None: there is none, or it is not worth it."""
        with self._lock:
            return self._files.pop() if self._files and length >= _MIN_SPARE_BYTES else None

    def clear(self) -> None:
        """Removes all of them."""
        with self._lock:
            while self._files:
                self._fs.unlink(self._files.pop())


class Upload:
    """One upload under way. Not safe to share between threads.

    A file made for the upload grows at its end. One that is overwritten has its final length from the start, so a
    small file beside it tells how much of it counts; that outlives the process. After a power failure it may tell too
    much: then the digest does not fit, and the upload starts again.
    """

    def __init__(self, fs: FileSystem, path: Path, length: int, offset: int, spares: Spares) -> None:
        self.path = path
        self.held = offset
        """Bytes received so far."""
        self._fs = fs
        self._length = length
        self._fd = self._counter = -1
        try:
            self._open(spares)
        except StorageError:
            self.close()
            raise

    def write(self, chunk: memoryview | bytes) -> None:
        """Appends a chunk.

        Raises `DigestMismatchError` past the announced length: something was doubled on the way. `StorageError` where
        the disk fails.
        """
        if self.held + len(chunk) > self._length:
            raise DigestMismatchError(f"the upload is longer than the {self._length} bytes it announced")
        self._fs.write(self._fd, self.path, chunk, self.held)
        self.held += len(chunk)
        self._count()

    def close(self) -> None:
        """Closes the file; what it holds can be resumed. Closing twice does no harm."""
        if self._fd >= 0:
            if self.held == self._length and self._counter >= 0:
                if os.fstat(self._fd).st_size > self._length:
                    self._fs.truncate(self._fd, self.path, self._length)
                self._fs.unlink(counter_of(self.path))
            os.close(self._fd)
        if self._counter >= 0:
            os.close(self._counter)
        self._fd = self._counter = -1

    def _open(self, spares: Spares) -> None:
        counter, flags = counter_of(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with storage_errors(self.path):
            spare = None if self.path.exists() else spares.take(self._length)
            if spare is not None or counter.exists():
                # Before the file has its name: without a counter its length would count.
                self._counter = os.open(counter, flags, 0o600)
                self._count()
            if spare is not None:
                self._fs.rename(spare, self.path)
            self._fd = os.open(self.path, flags, 0o600)
            if self._counter < 0 and os.fstat(self._fd).st_size != self.held:
                self._fs.truncate(self._fd, self.path, self.held)

    def _count(self) -> None:
        if self._counter >= 0:
            self._fs.write(self._counter, self.path, self.held.to_bytes(_HELD_BYTES, "little"), 0)


def counter_of(part: Path) -> Path:
    """The small file beside an upload that overwrites another file."""
    return part.with_name(part.name + _HELD)


def held_bytes(part: Path) -> int:
    """Bytes held of an upload; 0 where there is none."""
    counter = counter_of(part)
    with storage_errors(part):
        if not part.exists():
            return 0
        return int.from_bytes(counter.read_bytes(), "little") if counter.exists() else _size(part)


def _size(path: Path) -> int:
    with storage_errors(path):
        return path.stat().st_size

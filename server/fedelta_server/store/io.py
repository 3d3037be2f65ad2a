"""Whole reads and writes on open files, with the disk's complaints in fedelta's own words."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fedelta.errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` of the body into a `StorageError` that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of the file, closed at the end. Raises `StorageError` where it cannot be opened."""
    with storage_errors(path):
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def read_exactly(fd: int, into: memoryview, offset: int) -> None:
    """Fills `into` from byte `offset` of the file. Raises `StorageError` where the file ends before that."""
    done = 0
    while done < len(into):
        got = os.preadv(fd, [into[done:]], offset + done)
        if got == 0:
            raise StorageError(f"a stored file ends at byte {offset + done}, {len(into) - done} bytes too early")
        done += got


def write_fully(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Writes all of `data` at byte `offset`. A kernel may take less than it is given, for example near a limit."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, offset)
        rest = rest[done:]
        offset += done


class EarlySync:
    """Has the disk write a growing file while it is still being made, so that syncing it at the end is short.

    It promises nothing: what the disk complains of is found by the sync that counts. Use it in a `with` statement.
    """

    _STEP_BYTES = 64 << 20

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._running: Future[None] | None = None
        self._begun_at = 0

    def wrote(self, length: int) -> None:
        """The file has this length now."""
        idle = self._running is None or self._running.done()
        if idle and length - self._begun_at >= self._STEP_BYTES:
            self._begun_at = length
            self._running = self._pool.submit(os.fdatasync, self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

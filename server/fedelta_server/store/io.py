"""Whole reads and writes on open files, with the disk's complaints in fedelta's own words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

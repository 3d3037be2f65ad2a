"""Files of tensors: gathered reads and writes, and a digest made while writing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from fedelta.errors import PayloadError

_MOST_VIEWS = os.sysconf("SC_IOV_MAX")
"""How many pieces of memory one system call may read or write."""


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    digest: bytes
    """BLAKE3-256 of the whole file."""
    length: int
    """Bytes."""
    norm: float = 0.0
    """Of an update: its Euclidean norm over all tensors. Zero for models."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor to read the file."""
    yield from _descriptor(path, os.O_RDONLY)


@contextmanager
def overwritten(path: Path) -> Iterator[int]:
    """A descriptor to overwrite the file.

    It is not truncated first: its pages are used again, and fresh ones cost as much as the writing.
    """
    yield from _descriptor(path, os.O_RDWR | os.O_CREAT)


def _descriptor(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def as_bytes(values: npt.NDArray[Any]) -> memoryview:
    """The memory of a flat contiguous array."""
    return values.view(np.uint8).data


def fill(fd: int, views: Sequence[memoryview], at: int) -> None:
    """Reads from the file at `at` into one view after another. Raises `PayloadError` where the file ends early."""
    left = [view for view in views if view.nbytes]
    while left:
        got = os.preadv(fd, left[:_MOST_VIEWS], at)
        if got == 0:
            raise PayloadError("the file ends before its tensors do")
        at += got
        left = _after(left, got)


def _after(views: list[memoryview], done: int) -> list[memoryview]:
    """What is left of the views after `done` bytes."""
    for index, view in enumerate(views):
        if done < view.nbytes:
            return [view[done:], *views[index + 1 :]]
        done -= view.nbytes
    return []


class HashedFile:
    """A file written from its start to its end, hashed on the way."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._hash = blake3()

    def write(self, views: Sequence[memoryview]) -> None:
        """Writes one view after another."""
        left = [view for view in views if view.nbytes]
        for view in left:
            self._hash.update(view)
        while left:
            done = os.pwritev(self._fd, left[:_MOST_VIEWS], self._at)
            self._at += done
            left = _after(left, done)

    def finish(self, norm: float = 0.0) -> Written:
        """Cuts off what an earlier, longer file left. `norm` is that of an update."""
        os.ftruncate(self._fd, self._at)
        return Written(self._hash.digest(), self._at, norm)


class Window:
    """Reads of a file that mostly go forward, served from one buffer of `capacity` bytes."""

    def __init__(self, fd: int, capacity: int) -> None:
        self._fd = fd
        self._buffer = np.empty(capacity, np.uint8)
        self._begin = self._end = 0

    def take(self, at: int, count: int) -> npt.NDArray[np.uint8]:
        """At most `capacity` bytes at `at`, valid until the next call. Raises `PayloadError` at the file's end."""
        if at < self._begin or at + count > self._end:
            self._begin, self._end = at, at + os.preadv(self._fd, [self._buffer.data], at)
        if at + count > self._end:
            raise PayloadError("the file ends before its tensors do")
        return self._buffer[at - self._begin : at - self._begin + count]

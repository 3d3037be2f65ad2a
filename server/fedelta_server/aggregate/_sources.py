"""The updates of a round as open files, however many they are."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from fedelta.errors import StorageError
from fedelta_server.store.io import opened, read_exactly, storage_errors

MAX_OPEN = 128


class Sources:
    """Reads from many files of equal length; at most `max_open` of them stay open.

    They are read round and round, in the same order. There a cache that replaces the least recently used would
    never hit, so the first files stay open and the others are opened for each read.
    """

    def __init__(self, paths: Sequence[Path], nbytes: int, max_open: int = MAX_OPEN) -> None:
        """Raises `StorageError` where a file is missing, or not `nbytes` long."""
        self._paths = paths
        self._kept: list[int] = []
        self._closing = ExitStack()
        with ExitStack() as closing:
            for path in paths[:max_open]:
                self._kept.append(closing.enter_context(opened(path)))
            for path in paths:
                _check_length(path, nbytes)
            self._closing = closing.pop_all()

    def read(self, index: int, into: memoryview, offset: int) -> None:
        """Fills `into` from byte `offset` of one file."""
        path = self._paths[index]
        with ExitStack() as closing:
            fd = self._kept[index] if index < len(self._kept) else closing.enter_context(opened(path))
            closing.enter_context(storage_errors(path))
            read_exactly(fd, into, offset)

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def _check_length(path: Path, nbytes: int) -> None:
    with storage_errors(path):
        found = path.stat().st_size
    if found != nbytes:
        raise StorageError(f"{path}: has {found} bytes, should have {nbytes}; was it changed after it was admitted?")

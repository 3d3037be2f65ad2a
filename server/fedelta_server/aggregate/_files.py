"""The files of a fold: one that is read for the last time, and one that is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from fedelta_server.store.io import read_exactly, storage_errors, write_fully

_LAG_BYTES = 8 << 20
"""So far behind the block being read another thread may still be reading."""


@dataclass(frozen=True)
class Reader:
    """A file that is read once, from first to last, by threads that stay close together."""

    path: Path
    fd: int

    def read(self, into: memoryview, offset: int) -> None:
        """Reads for the last time: the base is history when the fold is done.

        Its cached pages are let go at once and take the block of the new version that is written next. Where a virtual
        machine must get fresh memory from its host instead, writing takes ten times as long.
        """
        with storage_errors(self.path):
            read_exactly(self.fd, into, offset)
            if offset > _LAG_BYTES:
                # From the start each time: what lay across an earlier boundary is let go now.
                os.posix_fadvise(self.fd, 0, offset - _LAG_BYTES, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True)
class Writer:
    """A file that is made."""

    path: Path
    fd: int

    def write(self, data: memoryview, offset: int) -> None:
        """Writes all of `data` at byte `offset`."""
        with storage_errors(self.path):
            write_fully(self.fd, data, offset)

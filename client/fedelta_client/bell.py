"""How commands in other terminals wake a running client: a named pipe in its spool.

No process id and no signal: it works from another container on the same volume, and for whoever may write the spool.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedelta.errors import StorageError

_NAME = "bell"


@contextmanager
def answered(spool: Path, on_ring: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `on_ring` is called in the event loop when someone rings."""
    path = spool / _NAME
    if not path.is_fifo():
        os.mkfifo(path, 0o600)
    # Opened for writing as well, it never comes to an end when a writer goes.
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    loop = asyncio.get_running_loop()

    def hear() -> None:
        os.read(fd, 4096)
        on_ring()

    loop.add_reader(fd, hear)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def ring(spool: Path) -> bool:
    """Wakes the client of this spool. Returns whether there is one. Raises `StorageError`."""
    path = spool / _NAME
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise StorageError(f"{path} cannot be opened: {error.strerror}; do it as the user that the client is") from None
    try:
        os.write(fd, b"!")
    finally:
        os.close(fd)
    return True

"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fedelta.errors import ConfigError, StorageError


@contextlib.contextmanager
def replaced(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields a name beside `path` to write to; the file moves to `path` when the block ends without an error.

    It is on the disk before it has its name. Raises `ConfigError` if `path` exists and must not be overwritten,
    `StorageError` if the disk refuses.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; it is overwritten only with --force (overwrite=True)")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Puts a file on the disk, or which files a folder has."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

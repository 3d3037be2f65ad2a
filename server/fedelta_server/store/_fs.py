"""The few file operations on which durability rests, in one class so that a test can stand in for the disk."""

import os
from pathlib import Path

from fedelta_server.store.io import opened, storage_errors, write_fully


class FileSystem:
    """The machine's file system. Every method raises `StorageError`, which names the path and the reason."""

    def write(self, fd: int, path: Path, data: memoryview | bytes, offset: int) -> None:
        """Writes all of `data` at `offset` of the open file. Not durable before `sync`."""
        with storage_errors(path):
            write_fully(fd, data, offset)

    def truncate(self, fd: int, path: Path, length: int) -> None:
        """Cuts the open file to `length` bytes."""
        with storage_errors(path):
            os.ftruncate(fd, length)

    def sync(self, path: Path) -> None:
        """Makes the file's content and length durable."""
        with opened(path) as fd, storage_errors(path):
            os.fdatasync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file its name, replacing what had it. Not durable before `sync_dir` of the target's directory."""
        with storage_errors(target):
            source.replace(target)

    def sync_dir(self, directory: Path) -> None:
        """Makes the names in the directory durable."""
        with opened(directory, os.O_RDONLY | os.O_DIRECTORY) as fd, storage_errors(directory):
            os.fsync(fd)

    def make_dir(self, directory: Path) -> None:
        """Makes one directory, if it is not there. Not durable before `sync_dir` of its parent."""
        with storage_errors(directory):
            directory.mkdir(exist_ok=True, mode=0o700)

    def unlink(self, path: Path) -> None:
        """Removes a file, if it is there."""
        with storage_errors(path):
            path.unlink(missing_ok=True)

    def remove_dir(self, directory: Path) -> None:
        """Removes an empty directory."""
        with storage_errors(directory):
            directory.rmdir()

    def free_bytes(self, directory: Path) -> int:
        """Bytes that may still be written to the file system of the directory."""
        with storage_errors(directory):
            found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

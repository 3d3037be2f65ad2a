"""The simulation's files: those of a coordinator, in a folder that does not outlive the simulation."""

from pathlib import Path

from fedelta_server.store._fs import FileSystem
from fedelta_server.store.files import Files


class _Passing(FileSystem):
    """Nothing is to outlive a power failure, so nothing waits for the disk."""

    def sync(self, path: Path) -> None:
        """See `FileSystem`."""

    def sync_dir(self, directory: Path) -> None:
        """See `FileSystem`."""


def files_in(folder: Path) -> Files:
    """A coordinator's files below the folder."""
    return Files(folder, _Passing())

"""Files that are known to be what was recorded, by version."""

from pathlib import Path


class Trusted:
    """Files with the very bytes of versions: their own, or recomputed ones. Only of the last two versions."""

    def __init__(self, scratch: Path) -> None:
        """`scratch`: files in this directory were recomputed, and are removed when they are not needed any more."""
        self._scratch = scratch
        self._files: dict[int, Path] = {}

    def get(self, number: int) -> Path | None:
        """The file of a version, if there is one."""
        return self._files.get(number)

    def trust(self, number: int, path: Path) -> None:
        """From now on the file stands for the version. One recomputed before is needed no more."""
        known = self._files.setdefault(number, path)
        if known != path:
            path.unlink()
        for old in [each for each in self._files if each < number - 1]:
            self._forget(self._files.pop(old))

    def _forget(self, path: Path) -> None:
        if path.parent == self._scratch:
            path.unlink()

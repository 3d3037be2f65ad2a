"""The client's directory: cached models and the update on its way, in files that are overwritten in place.

Fresh page-cache pages cost as much as a transfer, so no file is deleted or truncated before it is written again.
"""

import fcntl
import os
from pathlib import Path
from typing import Self

from fedelta.errors import NameInUseError

MODEL_SLOTS = 2
"""A round evaluates the version that the next one trains from, so two files serve train and evaluate."""


def default_root(name: str) -> Path:
    """Where the client called `name` keeps its files unless told otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "fedelta" / "clients" / name


class Spool:
    """The directory, held by one process at a time. A context manager.

    Raises `NameInUseError` on entering where another process holds it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = ModelCache([root / f"model-{slot}.safetensors" for slot in range(MODEL_SLOTS)])
        self.update = root / "update.safetensors"

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Given up by the kernel when this process ends, however it ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise NameInUseError(
                f"another client process on this machine uses {self.root}; give this one another --name or --spool"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)


class ModelCache:
    """Which model file holds which model. Known in memory only: after a restart nobody vouches for the files."""

    def __init__(self, slots: list[Path]) -> None:
        self._held: dict[Path, bytes] = dict.fromkeys(slots, b"")
        """Digest of what each file holds whole, least recently used first."""

    def find(self, digest: bytes) -> Path | None:
        """The file that holds the model."""
        found = next((path for path, held in self._held.items() if held == digest), None)
        if found is not None:
            self.keep(found, digest)
        return found

    def claim(self) -> Path:
        """The file to write the next model to. It holds nothing until `keep`."""
        path = next(iter(self._held))
        self._held[path] = b""
        return path

    def keep(self, path: Path, digest: bytes) -> None:
        """The file holds the model with this digest."""
        del self._held[path]
        self._held[path] = digest

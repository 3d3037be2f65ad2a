"""Pieces of moving model files: chunks, stall limit, patience."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedelta.errors import FedeltaError
from fedelta.wire.bulk import CHUNK_BYTES

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class StallGuard:
    """Calls `cancel` when `progress` is not called for a whole period of `limit` seconds (so after 1 to 2 of them).

    A context manager. Large files take as long as they take; only standing still is an error.
    """

    def __init__(self, limit: float, cancel: Callable[[], object]) -> None:
        self.stalled = False
        self._limit = limit
        self._cancel = cancel
        self._moved = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fedelta-stall-guard", daemon=True)

    def progress(self) -> None:
        """Something moved."""
        self._moved = True

    def _watch(self) -> None:
        while not self._done.wait(self._limit):
            if not self._moved:
                self.stalled = True
                self._cancel()
                return
            self._moved = False

    def __enter__(self) -> "StallGuard":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


class Patience:
    """How long a call goes on trying while the coordinator is away, for example because it is restarted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    @property
    def tried(self) -> bool:
        """Whether it is away already, since an attempt before."""
        return self._since is not None

    def progress(self) -> None:
        """The coordinator answered."""
        self._since = None
        self._pause = FIRST_PAUSE

    def wait(self, error: FedeltaError) -> None:
        """Pauses before the next attempt, longer each time; raises `error` when patience is at its end."""
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= self._seconds:
            raise error
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces of `CHUNK_BYTES`."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

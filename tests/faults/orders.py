"""Orders for faults: the harness gives them, and a process under test carries them out at one of its points.

A folder holds what is ordered of one process, a small file each. The process looks there whenever it comes to a point.
An order is removed before it is carried out, so that it happens once, also where it kills the process.
"""

import contextlib
import errno
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FAILURES = {"enospc": errno.ENOSPC, "eio": errno.EIO}
"""What the disk answers, by act."""

_DONE, _NOTES = "done", "notes"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to suffer, and where."""

    point: str
    """The name of the point."""
    act: str
    """"kill", "enospc", "eio", or what the point itself knows to do."""
    match: tuple[str, ...] = ()
    """All of this must be in what the point says of itself."""
    skip: int = 0
    """So many matching visits pass unharmed."""


class Orders:
    """The harness's side: gives orders to one process, and reads what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, order: Order) -> str:
        """Gives an order; returns its id."""
        name = f"{uuid.uuid4().hex}.order"
        draft = self.folder / "draft"
        draft.write_text(json.dumps(asdict(order)))
        draft.replace(self.folder / name)
        return name

    def withdraw(self, name: str) -> bool:
        """Takes an order back; returns whether it was still to be carried out."""
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def done(self) -> set[str]:
        """The orders that were carried out."""
        return {line["order"] for line in _lines(self.folder / _DONE)}

    def notes(self) -> list[dict[str, Any]]:
        """What the process has noted, in order."""
        return _lines(self.folder / _NOTES)


@dataclass
class Points:
    """The process's side."""

    folder: Path
    doing: str = ""
    """What the process is at work on; every point says so."""
    _visits: dict[str, int] = field(default_factory=dict)

    def reach(self, point: str, *says: str) -> str | None:
        """The process is at a point, and says what it is doing. Returns what the point is to do, if anything.

        A kill happens here, and what hangs does so here. Raises `OSError` where the disk is to fail.
        """
        act = self._due(point, " ".join((self.doing, *says)))
        if act == "hang":
            threading.Event().wait()
        if act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if act in FAILURES:
            raise OSError(FAILURES[act], os.strerror(FAILURES[act]))
        return act

    def note(self, **said: Any) -> None:
        """Writes something down for the harness; it outlives this process."""
        _append(self.folder / _NOTES, {**said, "at": time.monotonic()})

    def _due(self, point: str, says: str) -> str | None:
        for path in self._given():
            with contextlib.suppress(FileNotFoundError):
                order = json.loads(path.read_text())
                if order["point"] == point and all(part in says for part in order["match"]) and self._turn(path, order):
                    path.unlink()
                    _append(self.folder / _DONE, {"order": path.name, "says": says, "at": time.monotonic()})
                    return str(order["act"])
        return None

    def _given(self) -> Sequence[Path]:
        return sorted(self.folder.glob("*.order"))

    def _turn(self, path: Path, order: dict[str, Any]) -> bool:
        self._visits[path.name] = self._visits.get(path.name, 0) + 1
        return self._visits[path.name] > int(order["skip"])


def _append(path: Path, said: dict[str, Any]) -> None:
    """In one write: the process may be killed after any."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(said).encode() + b"\n")
    finally:
        os.close(fd)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

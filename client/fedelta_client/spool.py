"""The client's directory: cached models, the update on its way, and what learners keep from round to round.

Fresh page-cache pages cost as much as a transfer, so models and updates are overwritten in place, neither deleted nor
truncated first.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from fedelta._files import sync
from fedelta.errors import NameInUseError
from fedelta_client.results import Results
from fedelta_client.takeover import SessionFile

MODEL_SLOTS = 2
"""A round evaluates the version that the next one trains from, so two files serve train and evaluate."""

_SUFFIX, _PENDING = ".safetensors", ".pending"
_FIRST = f"@first{_SUFFIX}"
"""Ending of a pending state of a first round. A quoted id has no @."""


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
        self.models = FileCache([root / f"model-{slot}.safetensors" for slot in range(MODEL_SLOTS)])
        self.shared = FileCache([root / "shared.safetensors"])
        self.results = Results(root / "update.safetensors", root / "finished.json")
        self.session = SessionFile(root / "session.json")
        self.ledger = root / "ledger.jsonl"
        self.states = States(root / "states")

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self.states.root.mkdir(exist_ok=True)
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

    def footprint(self, model_bytes: int, shared_bytes: int = 0) -> int:
        """Bytes of the whole directory once each model slot has a model of this length, and there is such an update.

        `shared_bytes`: of what the plan shares beside the model, which has a slot, too, and a part of the update.
        """
        grows = {
            **dict.fromkeys(self.models.slots, model_bytes),
            **dict.fromkeys(self.shared.slots, shared_bytes),
            self.results.update: model_bytes + shared_bytes,
        }
        sizes = {path: path.stat().st_size for path in self.root.rglob("*") if path.is_file()}
        return sum(size for path, size in sizes.items() if path not in grows) + sum(
            max(wanted, sizes.get(path, 0)) for path, wanted in grows.items()
        )


class States:
    """What learners keep from one assignment of a job to the next: a file for each job and learner, and pending ones.

    A job for any learner may get another one after a restart of the client: that one does not find what is not its own.

    A state is pending from before its update is sent until the coordinator says whether that was folded. Nobody
    else can say it: an update whose acknowledgement was lost may have been accepted. All of it outlives this process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.draft = root / "draft"
        """Where the trainer writes a state."""

    def promoted(self, job: str, learner: str) -> Path | None:
        """The state that the learner's next training for the job begins with."""
        path = self._path(job, learner, _SUFFIX)
        return path if path.exists() else None

    def pend(self, job: str, learner: str, assignment_id: str, *, first: bool = False) -> None:
        """The draft, which its writer has synced, belongs to the learner's update for this assignment, from now on.

        `first`: the assignment is of a first round, see `forget`.
        """
        folder = self._path(job, learner, _PENDING)
        folder.mkdir(exist_ok=True)
        self.draft.replace(folder / (quote(assignment_id, safe="") + (_FIRST if first else _SUFFIX)))
        sync(folder)
        sync(self.root)

    def unsettled(self) -> list[str]:
        """The assignments whose states are pending."""
        return [assignment_id for assignment_id, _ in self._pending()]

    def settle(self, folded: Mapping[str, bool]) -> None:
        """Promotes the states whose updates were folded, drops those whose updates were not.

        In asynchronous rounds there may be several: the one of the latest assignment stays.
        """
        for assignment_id, path in list(self._pending()):
            if folded.get(assignment_id):
                path.replace(path.parent.with_suffix(_SUFFIX))
            elif assignment_id in folded:
                path.unlink()

    def forget(self, job: str, assignment_id: str) -> None:
        """Removes all states of a job but those that other assignments of its first round left pending.

        In asynchronous rounds a client may train twice from the first model, before its first update is folded.
        """
        for path in self.root.glob(f"{quote(job, safe='')}@*"):
            if path.is_file():
                path.unlink()
        for each, path in list(self._pending(f"{quote(job, safe='')}@*")):
            if each == assignment_id or not path.name.endswith(_FIRST):
                path.unlink()

    def _pending(self, jobs: str = "*") -> Iterator[tuple[str, Path]]:
        """Ids and files, the latest assignment of a job last."""
        for path in sorted(self.root.glob(f"{jobs}{_PENDING}/*{_SUFFIX}"), key=_natural):
            yield unquote(path.name.removesuffix(_FIRST).removesuffix(_SUFFIX)), path

    def _path(self, job: str, learner: str, ending: str) -> Path:
        # Names come from the coordinator; quoted and with an ending they cannot lead elsewhere, nor to others' states.
        return self.root / f"{quote(job, safe='')}@{quote(learner, safe='')}{ending}"


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sorts numbers in a path by their value: ids count rounds and attempts."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", str(path))]


class FileCache:
    """Which file holds what was fetched. Known in memory only: after a restart nobody vouches for the files."""

    def __init__(self, slots: list[Path]) -> None:
        self._held: dict[Path, bytes] = dict.fromkeys(slots, b"")
        """Digest of what each file holds whole, least recently used first."""

    @property
    def slots(self) -> list[Path]:
        """The files."""
        return list(self._held)

    def find(self, digest: bytes) -> Path | None:
        """The file that holds what has this digest."""
        found = next((path for path, held in self._held.items() if held == digest), None)
        if found is not None:
            self.keep(found, digest)
        return found

    def claim(self) -> Path:
        """The file to write the next one to. It holds nothing until `keep`."""
        path = next(iter(self._held))
        self._held[path] = b""
        return path

    def keep(self, path: Path, digest: bytes) -> None:
        """The file holds what has this digest."""
        del self._held[path]
        self._held[path] = digest

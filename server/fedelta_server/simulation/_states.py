"""What learners keep from one assignment to the next, in two steps as at clients."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path


class States:
    """The durable states of all clients of a simulation.

    A state is pending from its assignment's end until it is known whether the update made with it was folded; then it
    is promoted, or dropped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._promoted: dict[str, Path] = {}
        self._pending: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        """By client and assignment."""
        self._drafts = 0

    def draft(self) -> Path:
        """A new path for the state that a training leaves."""
        self._drafts += 1
        return self._folder / f"{self._drafts}.safetensors"

    def pend(self, client: str, assignment: str, state: Path) -> None:
        """A training left a state."""
        self._pending[client][assignment] = state

    def promoted(self, client: str, fate: Callable[[str, str], bool | None]) -> Path | None:
        """What the client's next training begins with. None: nothing.

        `fate` says of a client's assignment whether its update was folded; None: that is not decided yet.
        """
        pending = self._pending[client]
        for assignment, folded in [(each, fate(client, each)) for each in pending]:
            if folded is not None:
                self._settle(client, pending.pop(assignment), folded)
        return self._promoted.get(client)

    def _settle(self, client: str, state: Path, folded: bool) -> None:
        gone = self._promoted.get(client) if folded else state
        if gone is not None:
            gone.unlink(missing_ok=True)
        if folded:
            self._promoted[client] = state

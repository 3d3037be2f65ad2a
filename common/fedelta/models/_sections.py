"""What stays at a client from one assignment of a job to the next: one file, in which each owner has a section.

The name of a tensor is "OWNER/NAME", as in "learner/momentum". Files from before there were sections are the learner's.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from fedelta.models._arrays import read_arrays
from fedelta.models._cells import Array, Cell, Source
from fedelta.models._files import opened
from fedelta.models._state import write_tensors
from fedelta.tensors import read_layout

LEARNER = "learner"
"""The owner of what `Learner.durable_state` gives."""
PERSONAL = "personal"
"""The owner of the tensors that `model.personal` names."""

_METADATA: Mapping[str, str] = {"fedelta.kind": "client-state"}


class _Joined:
    """The tensors of several sources under the names of their owners."""

    def __init__(self, sections: Mapping[str, Source]) -> None:
        self._sections = sections

    def cells(self, *, writable: bool) -> Mapping[str, Cell]:
        """See `Source`."""
        return {
            f"{owner}/{name}": cell
            for owner, source in self._sections.items()
            for name, cell in source.cells(writable=writable).items()
        }


def write_sections(sections: Mapping[str, Source], path: Path) -> None:
    """Writes the tensors of each owner, over what is there; they are on disk afterwards.

    Raises `LearnerError` naming one that cannot be kept, `PayloadError`.
    """
    write_tensors(_Joined(sections), path, _METADATA)
    with opened(path) as fd:
        os.fsync(fd)


def read_sections(path: Path | None) -> dict[str, dict[str, Array]]:
    """The arrays of each owner. Empty without a file. Raises `PayloadError` where it is malformed."""
    if path is None:
        return {}
    arrays = read_arrays(path)
    if not _has_sections(path):
        return {LEARNER: arrays}
    found: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        owner, _, own = name.partition("/")
        found.setdefault(owner, {})[own] = array
    return found


def _has_sections(path: Path) -> bool:
    with opened(path) as fd:
        return read_layout(fd).metadata == _METADATA

"""What stays at a client from one assignment of a job to the next: the learner's, the plan's, the model's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedelta.errors import LearnerError
from fedelta.learner import Learner
from fedelta.models import LEARNER, PERSONAL, Own, Source, array_source, read_sections, write_sections
from fedelta.parts import LocalTraining, Tensors

Sections = Mapping[str, Tensors]
"""Arrays by owner and name."""


@dataclass(frozen=True, kw_only=True)
class StateFiles:
    """Where a client's durable state is between two assignments of a job."""

    load: Path | None
    """The state to begin with. None: there is none."""
    save: Path
    """Where the state after training goes, over what is there."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was there when an assignment began."""

    files: StateFiles | None
    """None: nothing was kept, and nothing will be."""
    sections: Sections

    @classmethod
    def read(cls, files: StateFiles | None) -> "Kept":
        """Raises `PayloadError` where the file is malformed."""
        return cls(files=files, sections=read_sections(None if files is None else files.load))

    def of_part(self, name: str) -> dict[str, Tensors]:
        """What the part of [local] of this name kept, by its own names."""
        before = f"{name}."
        return {
            owner.removeprefix(before): tensors for owner, tensors in self.sections.items() if owner.startswith(before)
        }

    def save(
        self, learner: Learner, own: Own, part: LocalTraining, name: str, keep: Mapping[str, Mapping[str, Any]]
    ) -> bool:
        """Writes what is to be found next time. Returns whether there was anything to write.

        `name` and `keep` are those of the part. Raises `LearnerError` naming what cannot be kept.
        """
        if self.files is None:
            return False
        said = learner.durable_state() if is_durable(learner) else None
        if said is None and not own.keeps and not part.keeps_state:
            return False
        sections = {LEARNER: array_source(self.sections.get(LEARNER, {})) if said is None else _said_by_learner(said)}
        if own.keeps:
            sections[PERSONAL] = own.personal
        if part.keeps_state:
            sections |= {f"{name}.{each}": array_source(tensors) for each, tensors in keep.items()}
        write_sections(sections, self.files.save)
        return True

    def give_back(self, learner: Learner) -> None:
        """Gives a learner that has durable state what it kept."""
        if is_durable(learner):
            state: Mapping[str, Any] = self.sections.get(LEARNER, {})
            learner.load_durable_state(state)


def _said_by_learner(state: Mapping[str, Any]) -> Source:
    try:
        source = array_source(state)
        source.cells(writable=False)
    except LearnerError as error:
        raise LearnerError(f"durable_state(): {error}") from None
    return source


def is_durable(learner: Learner) -> bool:
    """Whether the learner keeps a state."""
    return type(learner).durable_state is not Learner.durable_state

"""Stop rules: when a job is done before its last round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """A closed round."""

    number: int
    seconds: float
    """From opening to closing."""
    bytes_up: int
    bytes_down: int
    update_norm: float
    """The Euclidean norm of what the round changed the model by."""
    train_metrics: Mapping[str, float]
    """Weighted means of what the clients reported of their training."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What a stop rule may look at. All of it follows from records, so a decision is the same after a restart."""

    rounds: Sequence[RoundFacts]
    """The closed rounds in order; at least one."""
    evaluations: Mapping[int, Mapping[str, float]]
    """The metrics of evaluated versions by number, up to the last closed round less `evaluate.lag`: later ones are not
    looked at even where they are known, so that no decision depends on who is fast."""
    metric: str
    """The job's `evaluate.metric`; where it says none, "accuracy" if that is reported, else "loss"."""
    goal: str
    """Whether more of it is better, "max", or less, "min"."""


class StopRule(Protocol):
    """A frozen dataclass with the job file's parameters as its fields."""

    reads_metrics: ClassVar[bool]
    """Whether it looks at `History.evaluations`; the next round then waits for those."""

    def reason(self, history: History) -> str | None:
        """Why the job is done, in words for its operator, with the numbers. None: it goes on."""
        ...

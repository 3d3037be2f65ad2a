"""What a part of [local] is given at a client, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedelta.learner import Learner, Task, TrainResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensors = Mapping[str, "NDArray[Any]"]
"""Values by tensor name, in float32 or (for float64 tensors) float64."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One training assignment at one client. The model holds what came from the coordinator."""

    learner: Learner
    model: Any
    """The learner's model: a torch module, or a mapping of names to numpy arrays."""
    task: Task
    tensors: frozenset[str]
    """Names of the float tensors that updates are made of."""
    shared: Mapping[str, Tensors] = field(default_factory=dict)
    """By the names that the part declares: what coordinator and clients share. An empty one is all zeros."""
    kept: Mapping[str, Tensors] = field(default_factory=dict)
    """What the part gave as `keep` with this client's last update that was folded, by name. Empty at the beginning."""

    def train(self) -> TrainResult:
        """Has the learner train, and returns what it says."""
        return self.learner.train(self.model, self.task)


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """What came of training. Tensors are numpy arrays or torch tensors, as `Tensors` has them."""

    result: TrainResult
    """What the learner said."""
    keep: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What shall be found again as `Site.kept`, once the update is folded. Only parts that keep state give it."""
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How the client changed what the part shares, by name: sent with the update. What is left out did not change."""
    update: Mapping[str, Any] | None = None
    """The update itself, with zeros for what is left out. None: what training made of the model, less what it was."""

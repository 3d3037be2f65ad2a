"""What a data scientist writes: a `Learner`. Needs neither torch nor grpc."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAX_EXAMPLES = 1 << 53
"""The largest weight: up to here float64 holds every integer."""


def _ignore(fraction: float, metrics: Mapping[str, float]) -> None:
    """Without a runtime there is nobody to tell."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One assignment, as the learner sees it."""

    job: str = ""
    """The job's id."""
    round: int = 0
    """The round, from 1; 0 while the initial model is made."""
    client: str = ""
    """This client's name."""
    seed: int = 0
    """Derived from the job's seed, the round and the client's name. Python, numpy and torch are seeded with it
    before the learner is called."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The job file's [train] table."""
    device: str = "cpu"
    """Where to compute: what `--device` said, for example "cpu" or "cuda"."""
    on_progress: Callable[[float, Mapping[str, float]], None] = field(default=_ignore, repr=False, compare=False)
    """Where `report` goes; set by the runtime."""

    def report(self, fraction: float, **metrics: float) -> None:
        """Tells the coordinator how far the work is (0 to 1) and the latest numbers. Cheap; call it at will."""
        self.on_progress(fraction, metrics)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `Learner.train` returns."""

    examples: int
    """Number of distinct local examples trained on: the weight of this update. At least 1."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Training metrics, for example {"loss": 0.3}. They leave the site."""


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """What `Learner.evaluate` returns."""

    examples: int
    """Number of local examples evaluated on: the weight of the metrics. At least 1."""
    metrics: Mapping[str, float]
    """For example {"accuracy": 0.9, "loss": 0.3}. They leave the site."""


class Learner:
    """Model, data, training and evaluation at one site.

    The runtime makes one instance per trainer process, sets `data` and `device`, calls `setup` once, and then
    `train` and `evaluate` for every assignment, with a model object whose tensors hold the round's model. Whatever
    `train` leaves in the model is the result.

    The model object stays the same while the arguments of `model` do; where an assignment comes with others, `model`
    is called again. So an optimizer belongs to one `train`, not to the learner: it would hold on to an old model.

    A model is a `torch.nn.Module`, or a mutable mapping of names to numpy arrays.
    """

    name: ClassVar[str] = ""
    """What jobs call this learner. Empty: the "module:Class" it was loaded by."""

    data: Path = Path()
    """The client's `--data`, set before `setup`; the working directory where it has none."""
    device: str = "cpu"
    """The client's `--device`, resolved; set before `setup`."""

    def setup(self) -> None:
        """Called once, before `model`: read the data here."""

    def model(self) -> Any:
        """Builds the model. Its values matter only where it becomes a job's initial model.

        It may take keyword arguments, such as `def model(self, hidden=64, dropout=0.1)`: a job gives them in its
        [model.arguments]. With defaults for all of them a model that cannot be built is found when the client starts.
        """
        raise NotImplementedError(f"{type(self).__name__} must define model()")

    def train(self, model: Any, task: Task) -> TrainResult:
        """Trains `model` in place on the local data."""
        raise NotImplementedError(f"{type(self).__name__} must define train()")

    def evaluate(self, model: Any, task: Task) -> EvalResult:
        """Evaluates `model` on the local data."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate()")

    def durable_state(self) -> Mapping[str, Any] | None:
        """What `train` shall find again at the job's next assignment: numpy arrays or torch tensors by name.

        Called after each `train`, where it is overridden; momentum and the like go here. The state stays at the
        site. It counts once the update made with it is in the model: a state whose update was late, refused or
        dropped is forgotten. None leaves what was kept before as it is.
        """
        return None

    def load_durable_state(self, state: "Mapping[str, NDArray[Any]]") -> None:
        """Takes back what `durable_state` gave when this site's last update of the job was folded.

        Called before each `train`, where `durable_state` is overridden; tensors come back as numpy arrays, which
        are the learner's own. An empty mapping: nothing is kept, so start afresh.
        """
        raise NotImplementedError(f"{type(self).__name__} has durable_state(), so it must define load_durable_state()")

"""What is said between the simulation and the processes in which its clients work. All of it goes by pickle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedelta.learner import Learner
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.simulation._sites import Source

LearnerSource = str | Callable[[], Learner]
""""module:Class", or what makes a learner: a class, as a rule."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all clients and assignments of a simulation."""

    learner: LearnerSource
    source: Source
    job: str
    """The job's id."""
    config: str
    """[train] in JSON, as it comes to clients."""
    arguments: str
    """[model.arguments], likewise."""
    plan: str
    """The client's half of the plan, likewise."""
    shared: tuple[str, ...]
    """The names under which the plan shares tensors."""
    facts: Mapping[str, str]
    """What the plan wants to know of each update, and who needs it."""
    device: str
    threads: int
    """How many threads torch computes with."""
    resident: int
    """Learners that stay in a process after their assignment, at most; at least 1."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """An assignment, as whoever does it needs it."""

    id: str
    phase: PhaseKind
    client: str
    index: int
    """Which client it is, from 0."""
    round: int
    seed: int
    model: Path | None
    """The model file to begin with. None: the initial model is to be made."""
    shared: Path | None
    """The file with what the plan shares beside the model. None: nothing, or nothing yet."""
    out: Path
    """Where the update or the initial model goes."""
    state: Path | None
    """What the client kept. None: nothing."""
    state_out: Path
    """Where what it keeps after training goes."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A result that counts. `digest` and `length` are those of the file, of an evaluation empty and 0."""

    examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    """What the plan wants to know of an update."""
    digest: bytes = b""
    length: int = 0
    state_saved: bool = False


@dataclass(frozen=True, kw_only=True)
class Failed:
    """There is none."""

    outcome: Outcome
    reason: str
    traceback: str = ""
    """Where the learner raised it."""


Answer = Finished | Failed


def described(error: BaseException) -> str:
    """An exception in words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

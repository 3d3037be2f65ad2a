"""What the admin client returns: frozen dataclasses, no protobuf. Digests are BLAKE3-256 in hexadecimal."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


class JobState(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A state that only a newer coordinator knows."""

    @property
    def ended(self) -> bool:
        """Whether the job runs no more, unless a finished one is extended."""
        return self in (JobState.FINISHED, JobState.STOPPED, JobState.FAILED)


class Phase(enum.StrEnum):
    """The phase of a round."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    INITIALIZE = "initialize"
    UNKNOWN = "unknown"


class Outcome(enum.StrEnum):
    """How one client's part in a phase ended. Only `ACCEPTED` counts."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    LOST = "lost"
    LATE = "late"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    REJECTED = "rejected"
    DECLINED = "declined"
    RELEASED = "released"
    UNKNOWN = "unknown"


class ClientState(enum.StrEnum):
    """What a client is doing."""

    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Participation:
    """One client's part in one phase of a round."""

    client: str
    phase: Phase
    outcome: Outcome
    reason: str
    """Why it did not count; empty where it did."""
    examples: int
    """Its weight; 0 where it did not count."""
    metrics: Mapping[str, float]
    seconds: float
    """Spent in the learner."""
    staleness: int = 0
    """Asynchronous rounds: how many versions were made between the one it started from and the one it is in."""
    central: bool = False
    """It evaluates only: its metrics are part of the central evaluation, not of the clients'."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the clients' values of a metric are spread, each client counting once."""

    min: float
    median: float
    p90: float
    """The 90th percentile (nearest rank)."""
    max: float


@dataclass(frozen=True, kw_only=True)
class EvaluationInfo:
    """A closed evaluation of a model version."""

    version: int
    metrics: Mapping[str, float]
    """Averages over the clients, weighted by examples."""
    spread: Mapping[str, Spread]
    """By metric; of the clients without those that evaluate only."""
    central: Mapping[str, float]
    """Averages over those that evaluate only, weighted by examples. Empty: there are none."""
    clients: tuple[Participation, ...]
    seconds: float
    """From opening to closing."""
    bytes_down: int = 0
    """Payload of the models sent for it; they are in no round."""


@dataclass(frozen=True, kw_only=True)
class RoundInfo:
    """A closed round."""

    number: int
    """From 1; also the number of the model version it made."""
    attempts: int
    """How often it was opened; more than 1 where it had to be tried again."""
    seconds: float
    """From opening (the last time) to closing."""
    bytes_up: int
    """Payload of the updates received."""
    bytes_down: int
    """Payload of the models sent."""
    clients: tuple[Participation, ...]
    metrics: Mapping[str, float]
    """Evaluation of the version that it made, averages weighted by examples. Empty: it is not evaluated, or not yet."""
    train_metrics: Mapping[str, float]
    """The learners' training metrics, averages weighted by examples."""
    digest: str
    """Of the model version that the round made."""
    update_norm: float = 0.0
    """The Euclidean norm of what it changed the model by."""


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """A job."""

    id: str
    name: str
    state: JobState
    reason: str
    """Why it is in that state; empty where the state says it all."""
    submitted: datetime
    rounds_done: int
    rounds_max: int
    waiting_for: str
    """In words; empty where it waits for nothing."""
    initial_digest: str
    """Of version 0; empty while there is none."""
    rounds: tuple[RoundInfo, ...]
    """The closed rounds. Empty in a list of jobs."""
    toml: str
    """The job file's text."""
    best_version: int | None = None
    """The version with the best evaluation. None: none was evaluated, or this comes from a list of jobs."""
    origin: str = ""
    """The version of another job that it started from, as "JOB@VERSION"; empty: a file or a first client's model."""
    evaluations: tuple[EvaluationInfo, ...] = ()
    """The evaluations that are closed, by version. Empty in a list of jobs."""
    pruned_versions: tuple[int, ...] = ()
    """The versions whose files the coordinator gave up."""

    def evaluation(self, version: int) -> EvaluationInfo | None:
        """The closed evaluation of a version; None: there is none."""
        return next((each for each in self.evaluations if each.version == version), None)


@dataclass(frozen=True, kw_only=True)
class ClientInfo:
    """A client, as the coordinator sees it."""

    name: str
    state: ClientState
    learners: tuple[str, ...]
    software_version: str
    last_seen: datetime
    assignments: tuple[str, ...]
    """Ids of what it works on."""
    progress: float
    """Share done of its assignment, 0 to 1, as far as it says."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it says of itself."""
    declined: Mapping[str, str] = field(default_factory=dict)
    """The jobs in which its site does not take part, by id, each with the reason."""
    evaluates_only: bool = False
    """It evaluates and never trains."""


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """Evaluations that are under way."""

    versions: tuple[int, ...]
    after: int
    """Sequence number of the job's last event before: `watch` tells of them after it."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model file that was sent or received."""

    digest: str
    length: int
    """Bytes."""
    version: int | None = None
    """The job's version number. None for an uploaded model: it belongs to no job yet."""


@dataclass(frozen=True, kw_only=True)
class StateChanged:
    """The job is in another state."""

    state: JobState
    reason: str


@dataclass(frozen=True, kw_only=True)
class PhaseOpened:
    """A phase of a round was opened."""

    round: int
    """0 while the initial model is made."""
    attempt: int
    phase: Phase
    clients: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PhaseExtended:
    """Further clients were asked in an open phase, in place of some that dropped out."""

    round: int
    attempt: int
    phase: Phase
    clients: tuple[str, ...]
    """Those that take part from now on."""


@dataclass(frozen=True, kw_only=True)
class ParticipationEnded:
    """One client's part in an open round ended."""

    round: int
    participation: Participation


@dataclass(frozen=True, kw_only=True)
class VersionMade:
    """A model version was made."""

    version: int
    digest: str
    length: int


@dataclass(frozen=True, kw_only=True)
class RoundClosed:
    """A round is closed."""

    round: RoundInfo


@dataclass(frozen=True, kw_only=True)
class EvaluationClosed:
    """The evaluation of a version is closed."""

    evaluation: EvaluationInfo


@dataclass(frozen=True, kw_only=True)
class RoundFailed:
    """A round could not be completed; it is tried again, or the job pauses."""

    round: int
    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobExtended:
    """The job has another number of rounds."""

    rounds_max: int
    """In all."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job."""

    sequence: int
    """Increases from event to event; numbers may be missing."""
    time: datetime
    what: (
        StateChanged
        | PhaseOpened
        | PhaseExtended
        | ParticipationEnded
        | VersionMade
        | RoundClosed
        | EvaluationClosed
        | RoundFailed
        | JobExtended
    )

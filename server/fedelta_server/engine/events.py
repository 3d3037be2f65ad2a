"""Events: what happened. `at` is seconds on the coordinator's monotonic clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedelta.config import JobSpec
from fedelta_server.engine._refs import ModelRef, StateRef
from fedelta_server.engine.words import Outcome


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""

    at: float


@dataclass(frozen=True, kw_only=True)
class TimePassed(Event):
    """The time the engine asked to be woken at has come."""


@dataclass(frozen=True, kw_only=True)
class ClientRegistered(Event):
    """A client process opens a session, or comes back with it."""

    name: str
    session: str
    learners: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    software_version: str = ""
    evaluates_only: bool = False
    """It has held-out data only: it never trains, and its metrics are kept apart."""


@dataclass(frozen=True, kw_only=True)
class SessionEvent(Event):
    """Something a client did in its session. Any of them is a sign of life."""

    session: str


@dataclass(frozen=True, kw_only=True)
class PollStarted(SessionEvent):
    """The client asks for work and waits."""


@dataclass(frozen=True, kw_only=True)
class PollEnded(SessionEvent):
    """The client no longer waits: it was answered, or (`disconnected`) its connection broke."""

    disconnected: bool = False


@dataclass(frozen=True, kw_only=True)
class ClientLeft(SessionEvent):
    """The client closes its session."""


@dataclass(frozen=True, kw_only=True)
class AssignmentEvent(SessionEvent):
    """Something a client did with an assignment. Any of them extends its lease."""

    assignment: str


@dataclass(frozen=True, kw_only=True)
class AssignmentTaken(AssignmentEvent):
    """The assignment was handed to the client."""


@dataclass(frozen=True, kw_only=True)
class AssignmentRenewed(AssignmentEvent):
    """The client is still at it; `progress` is the share it has done."""

    progress: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BytesMoved(AssignmentEvent):
    """Payload bytes went up or down for the assignment."""

    up: int = 0
    down: int = 0


@dataclass(frozen=True, kw_only=True)
class ResultEvent(AssignmentEvent):
    """The result of an assignment."""

    examples: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class UpdateAccepted(ResultEvent):
    """An update was admitted and is durable."""

    digest: bytes
    length: int
    facts: Mapping[str, float] = field(default_factory=dict)
    """What it said of its update beyond metrics: what the plan asks for."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReported(ResultEvent):
    """Metrics of an evaluation came in."""


@dataclass(frozen=True, kw_only=True)
class AssignmentFailed(AssignmentEvent):
    """The client gives up (FAILED, RETURNED), its site does not take part (DECLINED), or its update was refused
    (REJECTED).
    """

    outcome: Outcome
    reason: str
    retry_after: float | None = None
    """With DECLINED: after so many seconds it may be asked again. None: when it registers again."""


@dataclass(frozen=True, kw_only=True)
class JobSubmitted(Event):
    """A job is to be run. Its initial model, if any, is in the store."""

    spec: JobSpec
    toml: str
    unix_time: float
    initial: ModelRef | None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class JobEvent(Event):
    """Something an operator or the coordinator did with a job."""

    job: str


@dataclass(frozen=True, kw_only=True)
class StopRequested(JobEvent):
    """End the job now."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PauseRequested(JobEvent):
    """Open no further round."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ResumeRequested(JobEvent):
    """Go on with a paused job."""


@dataclass(frozen=True, kw_only=True)
class ExtendRequested(JobEvent):
    """Run so many rounds in all; a finished job goes on."""

    rounds_max: int


@dataclass(frozen=True, kw_only=True)
class EvaluateRequested(JobEvent):
    """An operator wants versions to be evaluated, whether or not the job still runs."""

    versions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PruneRequested(JobEvent):
    """The files of these versions are no longer wanted. Those that something needs stay all the same."""

    versions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Folded(JobEvent):
    """The updates of a round were folded; the new model's file is durable."""

    round: int
    attempt: int
    digest: bytes
    length: int
    manifest: bytes
    """The digest of the version's manifest, whose file is durable as well."""
    state: StateRef | None = None
    """What the plan's parts keep for the next version; durable, too."""
    norm: float = 0.0
    """The Euclidean norm of what the model was changed by."""


@dataclass(frozen=True, kw_only=True)
class FoldFailed(JobEvent):
    """The updates of a round could not be folded."""

    round: int
    attempt: int
    reason: str

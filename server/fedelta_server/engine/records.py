"""Records: what the engine decided. They are the journal, and what an engine is rebuilt from."""

import msgspec

from fedelta_server.engine.words import JobState, Outcome, PhaseKind

CENTRAL = "central/"
"""What the names of metrics begin with that come from clients which evaluate only."""


class Record(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all records. Every record belongs to one job.

    Fields that are added later need a default: journals that were written before must be read.
    """

    job: str


class JobSubmitted(Record, frozen=True, kw_only=True, tag=True):
    """A job exists. `digest` and `length` are those of its initial model, or empty and 0.

    `origin` names the version of another job that the initial model is, as "JOB@VERSION".
    """

    toml: str
    submitted_unix: float
    digest: bytes = b""
    length: int = 0
    origin: str = ""


class JobStateChanged(Record, frozen=True, kw_only=True, tag=True):
    """The job is in another state."""

    state: JobState
    reason: str = ""


class JobExtended(Record, frozen=True, kw_only=True, tag=True):
    """The job runs so many rounds in all, whatever its job file says."""

    rounds_max: int


class PhaseOpened(Record, frozen=True, kw_only=True, tag=True):
    """A phase of a round was opened for these clients, sorted by name. INITIALIZE belongs to round 0.

    `turns` are the job's with this phase: so many clients has it had, divided by its share. `wanted`: the phase is
    complete when so many of the clients have given a result; 0: when the parts of all are over. `population`: how many
    clients could have been drawn. `central`: those of the clients that evaluate only. `requested`: it is an evaluation
    that an operator asked for. `attempts`, of asynchronous rounds: each client's own attempt at training from the same
    version.
    """

    round: int
    attempt: int
    phase: PhaseKind
    clients: list[str]
    turns: float = 0.0
    wanted: int = 0
    population: int = 0
    central: list[str] = []
    requested: bool = False
    attempts: list[int] = []


class PhaseExtended(Record, frozen=True, kw_only=True, tag=True):
    """Further clients were asked in an open phase, in place of some that dropped out. `turns` as in `PhaseOpened`."""

    round: int
    attempt: int
    phase: PhaseKind
    clients: list[str]
    turns: float


class Participation(msgspec.Struct, frozen=True, kw_only=True):
    """One client's part in one phase."""

    client: str
    phase: PhaseKind
    outcome: Outcome
    reason: str = ""
    examples: int = 0
    metrics: dict[str, float] = {}
    seconds: float = 0.0
    facts: dict[str, float] = {}
    """What it said of its update beyond metrics: what the plan asks for."""
    staleness: int = 0
    """Versions that were made between the one that it started from and the one that it is in."""
    central: bool = False
    """It is the part of a client that evaluates only: its metrics are kept apart."""


class ParticipationEnded(Record, frozen=True, kw_only=True, tag=True):
    """One client's part is over. `digest` and `length` name its update, where it gave one that counts.

    In asynchronous rounds an update that counts has a `number`, from 1: its place among all that its job accepted. It
    says which version the update is in, and where in the order of that version's fold.
    """

    round: int
    attempt: int
    participation: Participation
    digest: bytes = b""
    length: int = 0
    number: int = 0


class VersionMade(Record, frozen=True, kw_only=True, tag=True):
    """A model version exists: its file is durable, and in it are the updates that `clients` gave to the attempt.

    `manifest` is the digest of the file that says what it was made of. The initial model, version 0, is nobody's
    update and has none. `state` and `state_length` are those of the file with the parts' state, where the plan has any;
    `norm` is the Euclidean norm of what the model was changed by. `sources`, of asynchronous rounds: the round and the
    attempt of the assignment for which each of the `clients` gave its update; both in the order of acceptance.
    """

    version: int
    digest: bytes
    length: int
    attempt: int = 0
    clients: list[str] = []
    sources: list[tuple[int, int]] = []
    manifest: bytes = b""
    state: bytes = b""
    state_length: int = 0
    norm: float = 0.0


class VersionsPruned(Record, frozen=True, kw_only=True, tag=True):
    """The files of these versions are given up: nobody may rely on them from now on."""

    versions: list[int]


class RoundClosed(Record, frozen=True, kw_only=True, tag=True):
    """A round is complete. `seconds` runs from the opening of its last attempt.

    `turns` are the job's so far, `level` what they were when that attempt was opened. `norm` is the Euclidean norm of
    what the model was changed by. `metrics` are only there where the round waited for its evaluation, as it did before
    there was `EvaluationClosed`. Whatever is still open was opened after that round was closed which is `reach` before
    this one; 0: after this one.
    """

    number: int
    attempts: int
    seconds: float
    bytes_up: int
    bytes_down: int
    clients: list[Participation]
    metrics: dict[str, float]
    train_metrics: dict[str, float]
    digest: bytes
    turns: float = 0.0
    level: float = 0.0
    norm: float = 0.0
    reach: int = 0


class EvaluationClosed(Record, frozen=True, kw_only=True, tag=True):
    """The evaluation of a version is complete, or given up with what came in.

    `metrics` are averages over the clients, `central` over those that only evaluate. `clients` are the parts of both.
    The bytes are what moved for it; they are in no round.
    """

    version: int
    attempt: int
    seconds: float
    clients: list[Participation]
    metrics: dict[str, float]
    central: dict[str, float] = {}
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def measured(self) -> dict[str, float]:
        """All averages by the names that a job file has for them: "accuracy", "central/accuracy"."""
        return {**self.metrics, **{f"{CENTRAL}{name}": value for name, value in self.central.items()}}


class RoundFailed(Record, frozen=True, kw_only=True, tag=True):
    """An attempt at a round ended without a result. It is not `counted` where clients declined and did nothing else."""

    round: int
    attempt: int
    reason: str
    counted: bool = True


AnyRecord = (
    JobSubmitted
    | JobStateChanged
    | JobExtended
    | PhaseOpened
    | PhaseExtended
    | ParticipationEnded
    | VersionMade
    | VersionsPruned
    | RoundClosed
    | EvaluationClosed
    | RoundFailed
)
"""Any record; what a journal row decodes to."""

OUTLINE = (JobSubmitted, JobStateChanged, JobExtended, VersionMade, VersionsPruned, RoundClosed, EvaluationClosed)
"""What an engine is rebuilt from of a job's past, up to the round in the `reach` of the last closed one; from that on,
all records.
"""

ENDINGS_KEPT = 65_536
"""Of so many assignments at most an engine knows how they ended, and those among the latest so many records it knows
again after a restart: clients that come late with a result, or for the second time, are answered from that.
"""

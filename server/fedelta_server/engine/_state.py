"""The engine's state: clients, jobs, rounds, phases, assignments.

What is marked volatile is not in the journal: it is lost with the process and starts afresh.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import blake3

from fedelta.config import JobSpec
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._past import Past
from fedelta_server.engine.records import Participation
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from fedelta_server.plan import Plan, plan_of

LIVENESS_SECONDS = 15.0
"""A session that is silent for this long counts as gone."""

PICKUP_SECONDS = 15.0
"""An assignment that is not fetched for this long is given up."""

MAX_METRIC = 1e280
"""Up to this a metric times any number of examples, added up over any cohort, stays finite."""


@dataclass(frozen=True)
class ModelRef:
    """A model version: its number in the job, the digest and the length of its file."""

    version: int
    digest: bytes
    length: int


@dataclass(frozen=True)
class StateRef:
    """The state of a plan's parts after a version was made: the digest and the length of its file."""

    digest: bytes
    length: int


@dataclass(frozen=True)
class Made:
    """A version that was made: its model, the attempt that made it, and the digest of its manifest, if it has one."""

    model: ModelRef
    attempt: int = 0
    manifest: bytes = b""
    state: StateRef | None = None
    """What the plan's parts keep for the next version, if they keep anything."""
    sources: frozenset[tuple[int, int]] = frozenset()
    """Asynchronous rounds: the rounds and attempts of the assignments whose updates are in it."""


@dataclass(frozen=True)
class UpdateRef:
    """An accepted update: the digest and the length of its file."""

    digest: bytes
    length: int


@dataclass(frozen=True)
class Decline:
    """A client does not take part in a job: until when (infinity: until it registers again), and why."""

    until: float
    reason: str


@dataclass
class Client:
    """A registered client. All of it is volatile: clients register again after a restart."""

    name: str
    session: str
    learners: tuple[str, ...]
    labels: Mapping[str, str]
    software_version: str
    last_heard: float
    evaluates_only: bool = False
    """It has held-out data only: it never trains."""
    declined: dict[str, Decline] = field(default_factory=dict)
    """By job id: what it does not take part in, and what it did not until lately."""
    polls: int = 0
    disconnected: bool = False
    """Its connection broke while it waited for work, or it let a lease run out: it is probably dead."""
    left: bool = False

    def live(self, now: float) -> bool:
        """Whether it can be expected to take work."""
        if self.left or self.disconnected:
            return False
        return self.polls > 0 or now - self.last_heard < LIVENESS_SECONDS

    def offers(self, spec: JobSpec) -> bool:
        """Whether it has the learner and the labels that a job wants."""
        learner = not spec.job.learner or spec.job.learner in self.learners
        return learner and all(map(self._has, spec.job.labels))

    def declines(self, job_id: str, now: float) -> Decline | None:
        """Its refusal of a job, if one is in force."""
        found = self.declined.get(job_id)
        return found if found is not None and now < found.until else None

    def fits(self, job: "Job", now: float) -> bool:
        """Whether it can be expected to take work of a job."""
        return self.live(now) and self.offers(job.spec) and self.declines(job.id, now) is None

    def _has(self, label: str) -> bool:
        key, _, value = label.partition("=")
        return key in self.labels and value in ("", self.labels[key])


@dataclass
class Assignment:
    """One client's piece of a phase, while it is open."""

    job: str
    round: int
    attempt: int
    phase: PhaseKind
    client: str
    lease_until: float = math.inf  # volatile
    taken: bool = False  # volatile
    due: bool = False  # volatile
    """It is an evaluation that was overtaken by a training: by no other."""
    progress: float = 0.0  # volatile

    @property
    def begun(self) -> bool:
        """Whether it was the client's turn to take it; before, it waits behind another one, without a limit of time."""
        return self.lease_until < math.inf

    @property
    def version(self) -> int | None:
        """The version that its client gets. None: it makes the first one."""
        if self.phase is PhaseKind.INITIALIZE:
            return None
        return self.round if self.phase is PhaseKind.EVALUATE else self.round - 1

    @property
    def precedence(self) -> int:
        """When it is its client's turn to do it; the lowest first, of equals the oldest.

        Training goes before evaluations, which must not hold it up; but no client is kept from these for good.
        """
        if self.taken:
            return 0
        if self.due:
            return 1
        return 3 if self.phase is PhaseKind.EVALUATE else 2

    @property
    def id(self) -> str:
        """Stable: follows from what the assignment is."""
        return f"{self.job}.{self.round}.{self.attempt}.{self.phase}.{self.client}"


@dataclass
class Phase:
    """A phase of a round: its clients, and the assignments that are still open, by client."""

    kind: PhaseKind
    clients: tuple[str, ...]
    open: dict[str, Assignment]
    wanted: int = 0
    """It is complete with so many results; 0: when the parts of all its clients are over."""
    accepted: int = 0
    """Results that count."""
    dropped: int = 0
    """Parts that ended without one, but for those that were declined."""
    population: int = 0
    """How many clients could have been drawn for it."""
    timer: str = ""
    """The key of the timer of its deadline."""
    deadline: float = math.inf  # volatile

    @property
    def assignments(self) -> list[Assignment]:
        """Its open assignments, by client name."""
        return [self.open[name] for name in sorted(self.open)]

    @property
    def satisfied(self) -> bool:
        """Whether it has all results that it wanted."""
        return 0 < self.wanted <= self.accepted

    @property
    def short(self) -> int:
        """How many clients too few are at work, or done, for the results that it wants."""
        return max(0, self.wanted - self.accepted - len(self.open))


@dataclass
class Round:
    """The open round of a job. Round 0 makes the initial model."""

    number: int
    attempt: int
    phase: Phase
    parts: list[Participation] = field(default_factory=list)
    updates: dict[str, UpdateRef] = field(default_factory=dict)
    """The updates that were accepted, by client."""
    opened_at: float = 0.0  # volatile
    bytes_up: int = 0  # volatile
    bytes_down: int = 0  # volatile
    folding: bool = False  # volatile

    def accepted(self, phase: PhaseKind) -> list[Participation]:
        """The parts of a phase that count, by client name."""
        found = (part for part in self.parts if part.phase is phase and part.outcome is Outcome.ACCEPTED)
        return sorted(found, key=lambda part: part.client)

    def failures(self) -> set[Outcome]:
        """How those parts ended that do not count."""
        return {part.outcome for part in self.parts} - {Outcome.ACCEPTED}


@dataclass
class Evaluation:
    """The open evaluation of a version. Rounds go on meanwhile."""

    version: int
    attempt: int
    """That of the version, or a higher number where it is evaluated again."""
    phase: Phase
    central: frozenset[str]
    """Those of its clients that evaluate only."""
    requested: bool
    """An operator asked for it."""
    since: int
    """How many rounds were closed when it was opened."""
    parts: list[Participation] = field(default_factory=list)
    opened_at: float = 0.0  # volatile
    bytes_up: int = 0  # volatile
    bytes_down: int = 0  # volatile

    def accepted(self, *, central: bool) -> list[Participation]:
        """The parts that count, by client name: those of clients that evaluate only, or of the others."""
        found = (part for part in self.parts if part.outcome is Outcome.ACCEPTED and part.central is central)
        return sorted(found, key=lambda part: part.client)


@dataclass
class Job:
    """A job."""

    id: str
    spec: JobSpec
    toml: str
    submitted_unix: float
    rounds_max: int
    """Rounds to run in all: the job file's number, or what the job was extended to."""
    origin: str = ""
    """The version of another job that its initial model is, as "JOB@VERSION"; empty: it is none."""
    state: JobState = JobState.QUEUED
    reason: str = ""
    initial: ModelRef | None = None
    model: ModelRef | None = None
    """The newest version."""
    versions: dict[int, Made] = field(default_factory=dict)
    """All versions by number, also those whose files are gone."""
    pruned: set[int] = field(default_factory=set)
    """The versions whose files are given up."""
    rounds_done: int = 0
    failed_attempts: int = 0
    """Attempts at the next round that ended without a result, since it was first opened or the job was resumed."""
    attempts: int = 0
    """All attempts at the next round: numbers are never used twice."""
    round: Round | None = None
    """The open round. Of an asynchronous job: only the one that makes the initial model."""
    buffer: Buffer | None = None
    """Of an asynchronous job: who works for it, and the updates that wait for a version."""
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    """The open evaluations by version, oldest first."""
    past: Past = field(init=False)
    """What its closed rounds and evaluations told."""
    evaluated: dict[int, int] = field(default_factory=dict)
    """By version: the attempt of its latest evaluation, open or closed."""
    folded: dict[str, str] = field(default_factory=dict)
    """By client: the id of its latest assignment whose update is in a version."""
    turns: float = 0.0
    """How many clients its phases had, divided by its share: the job that has had the least goes first."""
    level: float = 0.0
    """Its turns when its latest round was opened."""
    round_seconds: float = 0.0
    """How long its latest round took; 0: none is closed yet."""
    excused: int = 0
    """How many rounds were closed when it was last extended after its end: its stop rules had their say on those."""
    judged: int = 0  # volatile
    """How many rounds were closed when its stop rules were asked last."""
    verdict: str = ""  # volatile
    """What they said then: why it is done; empty: that it goes on."""
    awaits_metrics: bool = False  # volatile
    """Whether what is decided before its next round rests on an evaluation that is still open."""
    standing: float | None = None  # volatile
    """Its turns while it waits and competes for clients, raised where it claimed the past; None: it does not."""

    def __post_init__(self) -> None:
        self.past = Past(self.spec.evaluate.lag)

    @cached_property
    def plan(self) -> Plan:
        """Its parts. Raises `ConfigError` where they cannot be made any more: a part's package may be gone."""
        return plan_of(self.spec)

    @property
    def runnable(self) -> bool:
        """Whether rounds may be opened."""
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    @property
    def stop_reason(self) -> str:
        """Why its stop rules end it before its last round; empty: they do not."""
        return self.verdict if self.excused < self.judged == self.rounds_done else ""

    @property
    def complete(self) -> bool:
        """Whether all its rounds are closed. It is finished when its evaluations are closed, too."""
        return self.rounds_left == 0

    @property
    def rounds_left(self) -> int:
        """How many rounds it has yet to close, as things stand."""
        return 0 if self.stop_reason else max(0, self.rounds_max - self.rounds_done)

    @property
    def waits(self) -> bool:
        """Whether a round is to be opened, or an asynchronous job has too few clients at work."""
        if self.buffered is not None:
            wanted = self.updates_missing > 0 and not self.awaits_metrics
            return self.runnable and wanted and self.buffered.short(self.spec.rounds.clients)
        return self.runnable and self.round is None and not self.complete and not self.awaits_metrics

    @property
    def at_work(self) -> bool:
        """Whether clients train for it now, where its rounds are asynchronous."""
        return self.buffered is not None and bool(self.buffered.open)

    @property
    def trains_after_fold(self) -> bool:
        """Whether a version is being made after which it goes on to train."""
        if self.buffered is not None:
            return self.buffered.folding and self.updates_missing > 0
        return self.round is not None and self.round.folding and self.round.number < self.rounds_max

    def folding(self, round_: int, attempt: int) -> Round | Buffer | None:
        """What a fold belongs to that is under way. None: there is no such fold any more."""
        if self.buffered is not None:
            return self.buffered if self.buffered.folding and round_ == self.next_round else None
        mine = self.round is not None and (self.round.number, self.round.attempt) == (round_, attempt)
        return self.round if self.round is not None and mine and self.round.folding else None

    @property
    def buffered(self) -> Buffer | None:
        """Its buffer, where its rounds are asynchronous and it has its initial model."""
        return self.buffer if self.model is not None else None

    @property
    def updates_missing(self) -> int:
        """How many updates an asynchronous job has yet to accept for all its versions."""
        return 0 if self.buffer is None else self.buffer.missing(self.rounds_left)

    @property
    def next_number(self) -> int:
        """The number of the update that an asynchronous job accepts next."""
        return self.updates_folded + len(self.buffer.held) + 1 if self.buffer is not None else 0

    @property
    def updates_folded(self) -> int:
        """How many updates are in the versions of an asynchronous job."""
        return 0 if self.buffer is None else self.buffer.size * self.rounds_done

    def staleness(self, assignment: Assignment) -> int:
        """How stale an assignment's update is if it is accepted now.

        That is how many versions are made between the one that it started from and the one that it will be in.
        """
        if self.buffered is None or assignment.phase is not PhaseKind.TRAIN:
            return 0
        return self.next_round + self.buffered.ahead - assignment.round

    def seed_of(self, assignment: Assignment) -> int:
        """The seed of an assignment, below 2^63. Who starts from the same version again gets another one."""
        again = assignment.attempt if self.buffered is not None and assignment.phase is PhaseKind.TRAIN else 1
        return task_seed(self.spec.job.seed, assignment.round, assignment.phase, assignment.client, again)

    def kept_versions(self) -> Iterator[ModelRef]:
        """The versions whose files are there."""
        return (made.model for number, made in self.versions.items() if number not in self.pruned)

    def pruned_versions(self) -> Iterator[ModelRef]:
        """The versions whose files are given up."""
        return (self.versions[number].model for number in sorted(self.pruned))

    @property
    def next_round(self) -> int:
        """The number of the round that is open or comes next. Round 0 makes the initial model."""
        return 0 if self.model is None else self.rounds_done + 1

    @property
    def ready_needed(self) -> int:
        """Ready clients needed to open the next round."""
        if self.next_round == 0 or self.at_work:
            return 1
        return self.plan.ready_needed

    def evaluates(self, version: int) -> bool:
        """Whether a version is to be evaluated when it is made."""
        every = self.spec.evaluate.every
        return every > 0 and (version % every == 0 or self.complete)

    def cost(self, clients: int) -> float:
        """The turns that a phase of so many clients counts for."""
        return clients / self.spec.job.share

    def undecided(self, client: str) -> set[str]:
        """The ids of a client's assignments to train whose updates may be in the next versions, or would have been."""
        if self.buffered is not None:
            sources = self.buffered.sources(client)
        elif self.round is not None and self.round.phase.kind is PhaseKind.TRAIN:
            sources = [(self.round.number, self.round.attempt)]
        else:
            sources = []
        return {Assignment(self.id, *source, PhaseKind.TRAIN, client).id for source in sources}

    def phases(self) -> Iterator[Phase]:
        """Its open phases: that of its round, or those of its buffer, then those of its evaluations."""
        if self.round is not None:
            yield self.round.phase
        if self.buffer is not None:
            yield from (self.buffer.open[name] for name in sorted(self.buffer.open))
        for evaluation in self.evaluations.values():
            yield evaluation.phase

    def open_assignments(self) -> Iterator[Assignment]:
        """Its open assignments: those of its round, then those of its evaluations, by client name."""
        for phase in self.phases():
            yield from phase.assignments


def evaluation_timer(job: str, version: int) -> str:
    """The key of the timer of an evaluation's deadline. It is no job's id and no assignment's: these have no slash."""
    return f"evaluation/{job}/{version}"


def task_seed(seed: int, round_: int, phase: PhaseKind, client: str, again: int = 1) -> int:
    """The seed of an assignment, below 2^63; for the initial model the job's own, whoever makes it.

    `again`: the how-manieth time it is that the client starts from the same version, in asynchronous rounds.
    """
    if phase is PhaseKind.INITIALIZE:
        return seed
    which = f"{round_}" if again == 1 else f"{round_}.{again}"
    digest = blake3.blake3(f"{seed}/{which}/{phase}/{client}".encode()).digest(length=8)
    return int.from_bytes(digest, "little") >> 1


def weighted_mean(parts: list[Participation]) -> dict[str, float]:
    """Each metric's mean over the clients that report it, weighted by examples, in client-name order."""
    sums: dict[str, tuple[float, int]] = {}
    for part in parts:
        for name, value in part.metrics.items():
            total, weight = sums.get(name, (0.0, 0))
            sums[name] = (total + part.examples * value, weight + part.examples)
    return {name: total / weight for name, (total, weight) in sorted(sums.items()) if weight}

"""The engine's state of a job.

What is marked volatile is not in the journal: it is lost with the process and starts afresh.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from fedelta.config import JobSpec
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._past import Past
from fedelta_server.engine._phases import Assignment, Evaluation, Phase, Round, task_seed
from fedelta_server.engine._refs import Made, ModelRef
from fedelta_server.engine.words import JobState, PhaseKind
from fedelta_server.plan import Plan, plan_of


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

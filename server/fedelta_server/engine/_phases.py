"""Phases and what they belong to: the round of a job, or the evaluation of a version; and their assignments.

What is marked volatile is not in the journal: it is lost with the process and starts afresh.
"""

import math
from dataclasses import dataclass, field

import blake3

from fedelta_server.engine._refs import UpdateRef
from fedelta_server.engine.records import Participation
from fedelta_server.engine.words import Outcome, PhaseKind

PICKUP_SECONDS = 15.0
"""An assignment that is not fetched for this long is given up."""

MAX_METRIC = 1e280
"""Up to this a metric times any number of examples, added up over any cohort, stays finite."""


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

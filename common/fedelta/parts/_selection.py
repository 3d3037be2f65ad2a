"""Selectors: which of the ready clients train in a round."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A client that can be drawn, and what its earlier parts in the job told. All of it follows from records."""

    name: str
    labels: Mapping[str, str]
    examples: int = 0
    """Of its latest update; 0: it gave none yet."""
    loss: float | None = None
    """The latest "loss" it reported, of an evaluation or else of a training, as far as those count by now."""
    seconds: float | None = None
    """How long its latest training took in the learner."""
    last_round: int = 0
    """The latest round for which it gave an update; 0: none."""
    rounds: int = 0
    """For how many rounds it gave one."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which draw it is."""

    round: int
    """From 1."""
    rounds: int
    """How many rounds the job runs as things stand."""
    wanted: int
    """How many updates the round wants; for a job that does not say, as many as there are candidates."""
    size: int
    """How many clients are asked for that: more than `wanted` where it over-selects. There may be fewer candidates."""
    uniform: Callable[[str], float]
    """A client's own random number in [0, 1) in this draw: from the job's seed, the round, the attempt and the name, so
    that one missing client changes nobody else's. Any other text gives an independent number."""


class Sizing(enum.Enum):
    """What says how many clients train in a round."""

    ROUNDS = "rounds"
    """`rounds.clients` or `rounds.fraction`; where neither is set, all ready clients train."""
    ALL = "all"
    """Nothing: all ready clients train."""
    CHANCE = "chance"
    """The selector, by chance: there may be a single one."""


class Selector(Protocol):
    """A frozen dataclass with the job file's parameters as its fields.

    In place of clients that drop out others are drawn: by another call with those who are idle and were not asked, the
    same round and the same numbers, and a `size` of as many as are missing.
    """

    reads_metrics: ClassVar[bool]
    """Whether it looks at `Candidate.loss`. A draw then waits for the evaluation of `evaluate.lag` versions before."""
    sizing: ClassVar[Sizing]
    """What says how many train. But for ROUNDS, all updates are waited for, and nobody is drawn for a drop-out."""

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """The names of those who train in the round, at least one. Nothing but the arguments decides.

        `candidates` are sorted by name and not empty.
        """
        ...

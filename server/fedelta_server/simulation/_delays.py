"""How long assignments take on the simulation's clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import blake3
import numpy as np

from fedelta.errors import ConfigError
from fedelta_server.engine.words import PhaseKind


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """An assignment that a client begins."""

    client: str
    index: int
    """Which client it is, from 0."""
    round: int
    phase: PhaseKind
    seed: int
    """Follows from the job's seed and from what the assignment is: whatever else happens, it is the same."""

    def rng(self) -> np.random.Generator:
        """Random numbers for this assignment alone."""
        return np.random.default_rng(self.seed)


Delays = Callable[[Occasion], float]
"""The seconds on the simulation's clock that an assignment takes, from its beginning until its result is accepted."""


def seed_of(job_seed: int, assignment: str) -> int:
    """The seed of an assignment's delay, below 2^64: another one than its learner gets."""
    return int.from_bytes(blake3.blake3(f"{job_seed}/delay/{assignment}".encode()).digest(length=8), "little")


@dataclass(frozen=True)
class Constant:
    """Every training takes as long. Evaluations and the initial model take no time."""

    seconds: float

    def __call__(self, occasion: Occasion) -> float:
        """See `Delays`."""
        return self.seconds if occasion.phase is PhaseKind.TRAIN else 0.0


@dataclass(frozen=True)
class HalfNormal:
    """Each training takes |N(0, scale)|, drawn anew: as in the experiments of FedBuff (Nguyen et al. 2022, section 5).

    Evaluations and the initial model take no time.
    """

    scale: float

    def __call__(self, occasion: Occasion) -> float:
        """See `Delays`."""
        return abs(float(occasion.rng().normal(0.0, self.scale))) if occasion.phase is PhaseKind.TRAIN else 0.0


@dataclass(frozen=True)
class Scaled:
    """Some clients take so many times as long as others."""

    delays: Delays
    factors: Mapping[str, float] = field(default_factory=dict)
    """By client; those that are not there have 1."""

    def __call__(self, occasion: Occasion) -> float:
        """See `Delays`."""
        return self.factors.get(occasion.client, 1.0) * self.delays(occasion)


NO_DELAYS = Constant(0.0)

_KINDS: Mapping[str, Callable[[float], Delays]] = {"constant": Constant, "half-normal": HalfNormal}


def parse_delays(text: str) -> Delays:
    """Reads "half-normal:SCALE" or "constant:SECONDS". Raises `ConfigError`."""
    kind, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if kind not in _KINDS or not 0 <= value < float("inf"):
        raise ConfigError(f"--delays {text}: say half-normal:SCALE or constant:SECONDS, for example half-normal:1.0")
    return _KINDS[kind](value)

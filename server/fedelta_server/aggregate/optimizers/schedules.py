"""How the learning rate of a server optimizer goes with the rounds."""

import math
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from fedelta.parts import Step


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays as it is, after a linear warm-up."""

    warm_up: Annotated[int, Meta(ge=0)] = 0
    """In the first so many rounds the learning rate rises: in the n-th to n / warm_up of what it is to be."""

    def factor(self, step: Step) -> float:
        """See `Schedule`."""
        if step.version <= self.warm_up:
            return step.version / self.warm_up
        return self._factor(step.version - self.warm_up - 1, step.rounds - self.warm_up)

    def _factor(self, done: int, rounds: int) -> float:  # noqa: ARG002
        """The factor after so many rounds of those that come after the warm-up."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Steps(Constant):
    """The learning rate is multiplied by `gamma` after every so many rounds."""

    every: Annotated[int, Meta(ge=1)]
    """After so many rounds."""
    gamma: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """By how much."""

    def _factor(self, done: int, rounds: int) -> float:  # noqa: ARG002
        return float(self.gamma ** (done // self.every))


@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """The learning rate is multiplied by `gamma` after each round."""

    gamma: Annotated[float, Meta(gt=0, le=1)]
    """By how much."""

    def _factor(self, done: int, rounds: int) -> float:  # noqa: ARG002
        return float(self.gamma**done)


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """The learning rate falls along half a cosine until the last round (Loshchilov and Hutter 2017, equation 5).

    A job that is extended goes on where the longer curve is by then.
    """

    least: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """To which share of the learning rate it falls."""

    def _factor(self, done: int, rounds: int) -> float:
        return self.least + (1.0 - self.least) * (1.0 + math.cos(math.pi * done / rounds)) / 2.0

"""Adaptive server optimizers: "Adaptive federated optimization" (Reddi et al. 2021), algorithm 2."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from fedelta.parts import Block, Step
from fedelta_server.aggregate.optimizers._rate import Rate, Scheduled

Decay = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class _Adaptive(Scheduled, ABC):
    """m = beta1 m + (1 - beta1) delta; v from delta^2, as each says; model + lr m / (sqrt(v) + tau)."""

    tau: Annotated[float, Meta(gt=0)] = 1e-3
    """How adaptive it is: the smaller, the more alike the steps of all values are."""
    v0: Annotated[float, Meta(ge=0)] | None = None
    """What v is at first. Absent: tau^2, the least that the paper allows (0 where the bias is corrected)."""

    beta1: Decay = 0.9
    """How much of m stays from round to round; 0: there is no m but delta."""

    @property
    def state(self) -> tuple[str, ...]:
        """See `ServerOptimizer`."""
        return ("m", "v") if self.beta1 else ("v",)

    def initial(self, name: str) -> float:
        """See `ServerOptimizer`."""
        if name != "v":
            return 0.0
        return self.tau**2 if self.v0 is None else self.v0

    def apply(self, model: Block, delta: Block, state: Mapping[str, Block], step: Step) -> None:
        """See `ServerOptimizer`."""
        square = delta * delta
        first, second = state.get("m", delta), state["v"]
        if self.beta1:
            np.multiply(first, self.beta1, out=first)
            np.multiply(delta, 1.0 - self.beta1, out=delta)
            np.add(first, delta, out=first)
        self._gather(second, square)
        first_scale, second_scale = self._corrections(step.version)
        divisor = np.sqrt(second, out=square)
        np.multiply(divisor, second_scale, out=divisor)
        np.add(divisor, self.tau, out=divisor)
        moved = np.divide(first, divisor, out=delta)
        np.multiply(moved, self.rate(step) * first_scale, out=moved)
        np.add(model, moved, out=model)

    @abstractmethod
    def _gather(self, second: Block, square: Block) -> None:
        """Changes v by the squares of delta, which may be overwritten."""

    def _corrections(self, steps: int) -> tuple[float, float]:  # noqa: ARG002
        """What m and sqrt(v) are multiplied by in the step of this number."""
        return 1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Adagrad(_Adaptive):
    """FedAdagrad (Reddi et al. 2021, algorithm 2): v = v + delta^2, so steps become shorter and shorter."""

    lr: Rate = 0.1
    """The learning rate."""
    beta1: Decay = 0.0
    """How much of m stays from round to round; 0, as in the paper: there is no m but delta."""

    def _gather(self, second: Block, square: Block) -> None:
        np.add(second, square, out=second)


@dataclass(frozen=True, kw_only=True)
class _Moments(_Adaptive):
    lr: Rate = 0.01
    """The learning rate."""
    beta2: Decay = 0.99
    """How much of v stays from round to round."""
    bias_correction: bool = False
    """Whether m and v are divided by 1 - beta1^t and 1 - beta2^t in round t (Kingma and Ba 2015). The paper, and so the
    default, does not: first steps are short."""

    def initial(self, name: str) -> float:
        """See `ServerOptimizer`."""
        return 0.0 if self.bias_correction and self.v0 is None else super().initial(name)

    def _corrections(self, steps: int) -> tuple[float, float]:
        if not self.bias_correction:
            return 1.0, 1.0
        return 1.0 / (1.0 - self.beta1**steps), 1.0 / math.sqrt(1.0 - self.beta2**steps)


@dataclass(frozen=True, kw_only=True)
class Adam(_Moments):
    """FedAdam (Reddi et al. 2021, algorithm 2): v = beta2 v + (1 - beta2) delta^2.

    As in the paper the bias of m and v is not corrected, unless `bias_correction` says so.
    """

    def _gather(self, second: Block, square: Block) -> None:
        np.multiply(second, self.beta2, out=second)
        np.multiply(square, 1.0 - self.beta2, out=square)
        np.add(second, square, out=second)


@dataclass(frozen=True, kw_only=True)
class Yogi(_Moments):
    """FedYogi (Reddi et al. 2021, algorithm 2): v = v - (1 - beta2) delta^2 sign(v - delta^2).

    v moves by no more than delta^2, however large it is. The bias is not corrected, unless `bias_correction` says so.
    """

    def _gather(self, second: Block, square: Block) -> None:
        sign = np.sign(second - square)
        np.multiply(square, sign, out=square)
        np.multiply(square, 1.0 - self.beta2, out=square)
        np.subtract(second, square, out=second)

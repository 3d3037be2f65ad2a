"""Server optimizers: how the aggregated update changes the model, block by block, with state of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Block = NDArray[Any]
"""A part of the model's float tensors, one-dimensional, in float32 or (for float64 tensors) float64."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Which step it is."""

    version: int
    """The number of the version that is made, from 1: an optimizer's count of steps."""
    rounds: int
    """How many versions the job makes as things stand: what a schedule ends with."""
    clients: int
    """How many updates are in it."""
    population: int
    """How many clients could have been drawn for it, and at least `clients`."""


class ServerOptimizer(Protocol):
    """A frozen dataclass with the job file's parameters as its fields."""

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the tensors it keeps for each float tensor of the model, with these parameters.

        They have the same shape, in float32, for float64 tensors in float64. They are durable, like the model.
        """
        ...

    def initial(self, name: str) -> float:
        """What all values of a state tensor are before the first step."""
        ...

    def apply(self, model: Block, delta: Block, state: Mapping[str, Block], step: Step) -> None:
        """Changes blocks of the model and of the state in place, each value for itself. `delta` may be overwritten.

        `delta` points where the model is to go (minus the gradient, as it were).
        """
        ...


class Schedule(Protocol):
    """How a learning rate goes with the steps."""

    def factor(self, step: Step) -> float:
        """What the learning rate is multiplied by."""
        ...

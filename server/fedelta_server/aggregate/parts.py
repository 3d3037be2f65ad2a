"""The parts of a plan that work at the coordinator, and how a job file names them.

A part sees blocks, never a whole model: the fold calls it block after block, in any block length, and the
result must not depend on where blocks are cut. Parts are immutable; what one pass over the data needs is in
the accumulator, so that several threads may each have their own.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from fedelta.config import AggregatorPart, ServerOptimizerPart
from fedelta.parts import build
from fedelta.tensors import DType
from fedelta_server.aggregate._values import Block


class Needs(enum.Enum):
    """What an aggregator must hold of a block at a time; it bounds the block's length."""

    SUM = "sum"
    """A sum over clients: memory does not depend on their number."""
    EACH = "each"
    """Every client's values, as the median does."""


class Accumulator(Protocol):
    """Turns the blocks of all clients' deltas into one, again and again, in reused memory."""

    def begin(self, count: int) -> None:
        """Starts a block of `count` elements."""
        ...

    def add(self, index: int, delta: Block) -> None:
        """Takes the block of the client at `index`, called in order of clients. `delta` is reused afterwards."""
        ...

    def result(self) -> Block:
        """The aggregated delta in the type the accumulator was made for; it may be overwritten until `begin`."""
        ...


class Aggregator(Protocol):
    """How updates become one."""

    @property
    def needs(self) -> Needs:
        """What it holds of each block."""
        ...

    def accumulator(self, weights: Sequence[float], dtype: DType, block: int) -> Accumulator:
        """For updates of these weights (all positive, by client name), blocks of at most `block` of F32 or F64."""
        ...


class ServerOptimizer(Protocol):
    """How the aggregated delta changes the model."""

    def apply(self, model: Block, delta: Block) -> None:
        """Changes a block of the model in place. Both have the same type; `delta` may be overwritten."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean of the deltas weighted by examples: FedAvg (McMahan et al. 2017, algorithm 1).

    Products and sums are float64 also for float32 updates: equal updates average to exactly themselves, the
    error does not grow with the number of clients, and reading the files costs more than the arithmetic.
    """

    needs: ClassVar[Needs] = Needs.SUM
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def accumulator(self, weights: Sequence[float], dtype: DType, block: int) -> Accumulator:
        """See `Aggregator`. Weights are divided by their sum."""
        total = float(sum(weights))
        return _WeightedSum([weight / total for weight in weights], dtype, block)


@dataclass(frozen=True)
class Sum:
    """The plain sum of the deltas, whatever their weights: what statistics need, where each client adds its counts.

    Sums are float64 also for float32 updates, so integers are added exactly as long as the sum stays below 2^53
    (and below 2^24 in a float32 model). A model that trains would move by as many times the mean as there are clients.
    """

    needs: ClassVar[Needs] = Needs.SUM
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def accumulator(self, weights: Sequence[float], dtype: DType, block: int) -> Accumulator:
        """See `Aggregator`. Weights do not count."""
        return _WeightedSum([1.0] * len(weights), dtype, block)


class _WeightedSum:
    def __init__(self, factors: Sequence[float], dtype: DType, block: int) -> None:
        self._factors = factors
        self._sum = np.empty(block, np.float64)
        self._term = np.empty(block, np.float64)
        self._result = np.empty(block, dtype.storage)
        self._count = 0

    def begin(self, count: int) -> None:
        self._count = count

    def add(self, index: int, delta: Block) -> None:
        total = self._sum[: self._count]
        term = total if index == 0 else self._term[: self._count]
        np.copyto(term, delta)
        np.multiply(term, self._factors[index], out=term)
        if index > 0:
            np.add(total, term, out=total)

    def result(self) -> Block:
        found = self._result[: self._count]
        np.copyto(found, self._sum[: self._count], casting="same_kind")
        return found


@dataclass(frozen=True)
class Sgd:
    """model + lr * delta; with lr = 1 the model becomes the clients' average."""

    lr: float = 1.0

    def apply(self, model: Block, delta: Block) -> None:
        """See `ServerOptimizer`."""
        if self.lr != 1.0:
            np.multiply(delta, self.lr, out=delta)
        np.add(model, delta, out=model)


def build_aggregator(part: AggregatorPart) -> Aggregator:
    """The aggregator of a job. Raises `ConfigError`."""
    found: Aggregator = build(part)
    return found


def build_optimizer(part: ServerOptimizerPart) -> ServerOptimizer:
    """The server optimizer of a job. Raises `ConfigError`."""
    found: ServerOptimizer = build(part)
    return found

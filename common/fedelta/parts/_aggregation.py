"""Aggregators: from what is known of the updates to a rule by which their blocks become one.

An aggregator never sees a model. It is asked once for each fold, with what is known of the updates and what was
measured of them (numbers per client, not tensors), and answers with a rule. There are two kinds of rules; both work on
blocks of any length, so that the coordinator's memory does not depend on the model, and files and arrays give the same.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Needs(enum.Enum):
    """What must be seen of the updates."""

    SUM = "sum"
    """Nothing but a weighted sum over clients, with weights that are known beforehand."""
    EACH = "each"
    """Every client's update: what shows only the sum, such as secure aggregation, excludes it."""


class Measure(enum.Enum):
    """What a pass over all updates finds out before they are folded."""

    NORMS = "norms"
    """Each update's Euclidean norm."""
    DISTANCES = "distances"
    """The squared Euclidean distances between all updates."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What is known of the updates of a fold without reading them, in the order in which they are folded."""

    clients: tuple[str, ...]
    examples: tuple[int, ...]
    """How many local examples each was trained on; all positive."""
    staleness: tuple[int, ...]
    """How many versions were made since the one that each started from; zeros in synchronous rounds."""
    facts: tuple[Mapping[str, float], ...]
    """Numbers that the clients give beside their updates: those that the aggregator names in `facts`."""

    def __len__(self) -> int:
        return len(self.clients)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, in float64 and in the order of the updates; None where it was not asked for."""

    norms: NDArray[np.float64] | None = None
    """Shape (updates,)."""
    distances: NDArray[np.float64] | None = None
    """Squared, shape (updates, updates), symmetric, with zeros on the diagonal."""


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The sum of `factors[i] * update[i]`. Updates with the factor 0 are not read."""

    factors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Coordinatewise:
    """A function of each coordinate's values at the chosen updates, such as their median."""

    chosen: tuple[int, ...]
    """Which updates, by index, in order."""
    function: Callable[[NDArray[Any]], NDArray[Any]]
    """From shape (chosen, elements) to shape (elements,), each column for itself. It may overwrite what it is given."""


Rule = Weighted | Coordinatewise
"""How the blocks of all updates become one block."""


class Aggregator(Protocol):
    """How updates become one: a frozen dataclass with the job file's parameters as its fields."""

    needs: ClassVar[Needs]
    """What it must see."""
    measures: ClassVar[frozenset[Measure]]
    """What `rule` wants to be measured."""
    facts: ClassVar[frozenset[str]]
    """The numbers that every update must bring. What clients can give: "steps", "loss" (see `fedelta.local`)."""

    @property
    def least(self) -> int:
        """So many updates are needed at least, with these parameters."""
        ...

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """How these updates become one. There are `least` or more of them. Deterministic; ties go to the first."""
        ...

"""Means, and the plain sum."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta_server.aggregate.rules._shares import shares


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of the updates weighted by examples: FedAvg (McMahan et al. 2017, algorithm 1)."""

    needs: ClassVar[Needs] = Needs.SUM
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        return Weighted(factors=tuple(shares(updates, "examples").tolist()))


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The plain mean of the updates, however many examples each was trained on.

    Where clients have unequal numbers of examples it does not lead to the minimum of the loss over all examples, as
    `mean` does, but to that of the mean of the clients' losses.
    """

    needs: ClassVar[Needs] = Needs.SUM
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        return Weighted(factors=tuple(shares(updates, "uniform").tolist()))


@dataclass(frozen=True, kw_only=True)
class Sum:
    """The plain sum of the updates, whatever their weights: what statistics need, where each client adds its counts.

    Sums are float64 also for float32 updates, so integers are added exactly as long as the sum stays below 2^53
    (and below 2^24 in a float32 model). A model that trains would move by as many times the mean as there are clients.
    """

    needs: ClassVar[Needs] = Needs.SUM
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        return Weighted(factors=(1.0,) * len(updates))

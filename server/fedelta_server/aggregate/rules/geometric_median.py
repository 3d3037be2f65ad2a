"""The geometric median, from distances alone."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedelta.parts import Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta_server.aggregate.rules._shares import Weights, shares

_STILL = 1e-12
"""A step that changes no weight by more than this is the last."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GeometricMedian:
    """The point with the least sum of distances to all updates: RFA (Pillutla et al. 2022, smoothed Weiszfeld).

    It holds as long as the updates that are wrong have less than half of the weight. As in the paper that is by
    examples, as the clients tell them; say `weights = "uniform"` where they might lie.
    """

    weights: Weights = "examples"
    """How much each distance counts: "examples", or "uniform" for all alike."""
    smoothing: Annotated[float, Meta(gt=0)] = 1e-6
    """Distances below this count as this: the paper's nu."""
    iterations: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """The most steps. They cost little, as only weights change; there are fewer where these stand still."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.DISTANCES})
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        assert measured.distances is not None, "asked for in `measures`"
        return Weighted(factors=tuple(self._solve(measured.distances, shares(updates, self.weights)).tolist()))

    def _solve(self, distances: NDArray[np.float64], alpha: Vector) -> Vector:
        weights = alpha
        for _ in range(self.iterations):
            closeness = alpha / np.maximum(to_mean(distances, weights), self.smoothing)
            before, weights = weights, closeness / closeness.sum()
            if np.abs(weights - before).max() <= _STILL:
                break
        return weights


def to_mean(distances: NDArray[np.float64], weights: Vector) -> Vector:
    """How far each point is from the weighted mean of all, given the squared distances between them.

    For weights whose sum is 1: |x_i - sum_j w_j x_j|^2 = sum_j w_j D_ij - 1/2 sum_jk w_j w_k D_jk.
    """
    # No matrix product: its last bits depend on the processor.
    each = (distances * weights).sum(axis=1)
    found: Vector = np.sqrt(np.maximum(each - (weights * each).sum() / 2, 0.0))
    return found

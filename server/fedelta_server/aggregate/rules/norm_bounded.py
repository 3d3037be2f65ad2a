"""The mean of updates that are cut to a length."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from fedelta.parts import Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta_server.aggregate.rules._shares import Weights, shares


@dataclass(frozen=True, kw_only=True)
class NormBounded:
    """The mean of the updates, each scaled down to a norm where it is longer (Sun et al. 2019, norm thresholding).

    So a single update moves the model by no more than its share of that norm, whatever it says. It is weighted by
    examples, as the clients tell them; say `weights = "uniform"` where they might lie.
    """

    norm: Annotated[float, Meta(gt=0)] | None = None
    """The greatest Euclidean norm of an update. Absent: the median of this round's norms."""
    weights: Weights = "examples"
    """How much each update counts: "examples", or "uniform" for all alike."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.NORMS})
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        assert measured.norms is not None, "asked for in `measures`"
        bound = float(np.median(measured.norms)) if self.norm is None else self.norm
        scales = [bound / norm if norm > bound else 1.0 for norm in measured.norms.tolist()]
        pairs = zip(shares(updates, self.weights).tolist(), scales, strict=True)
        return Weighted(factors=tuple(share * scale for share, scale in pairs))

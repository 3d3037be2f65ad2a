"""Power-of-choice: clients with a great loss first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta.config import MAX_COUNT
from fedelta.parts import Candidate, Draw, Sizing
from fedelta_server.selectors._chance import by_weight


@dataclass(frozen=True, kw_only=True)
class PowerOfChoice:
    """Of `d` sampled clients those with the greatest loss (Cho, Wang and Joshi 2020, section 3).

    Clients are sampled in proportion to their examples; those whose examples or loss are not known yet come first. The
    loss is what a client reported last, of an evaluation or else of its training (the paper's rpow-d).
    """

    d: Annotated[int, Meta(ge=1, le=MAX_COUNT)] | None = None
    """How many are sampled, and at least as many as are asked. Absent: twice as many."""
    reads_metrics: ClassVar[bool] = True
    sizing: ClassVar[Sizing] = Sizing.ROUNDS

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """See `Selector`."""
        sampled = by_weight(candidates, draw, lambda each: each.examples or math.inf)
        sampled = sampled[: max(draw.size, self.d or 2 * draw.size)]
        return [each.name for each in sorted(sampled, key=_precedence)[: draw.size]]


def _precedence(candidate: Candidate) -> float:
    return -math.inf if candidate.loss is None else -candidate.loss

"""Poisson sampling."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta.parts import Candidate, Draw, Sizing


@dataclass(frozen=True, kw_only=True)
class Poisson:
    """Each ready client by itself, with the same chance: what accounting of privacy assumes (Abadi et al. 2016).

    Nobody is drawn in place of a client that drops out. A draw of nobody is drawn again, with new numbers; of n clients
    that happens with a chance of (1 - rate) ** n.
    """

    rate: Annotated[float, Meta(ge=0.001, le=1)]
    """The chance of each client in each round."""
    reads_metrics: ClassVar[bool] = False
    sizing: ClassVar[Sizing] = Sizing.CHANCE

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """See `Selector`."""
        drawn = (self._drawn(candidates, draw, time) for time in itertools.count())
        return next(filter(None, drawn))

    def _drawn(self, candidates: Sequence[Candidate], draw: Draw, time: int) -> list[str]:
        """Whom the draw gives that is repeated for the `time`-th time; no client's name begins like the others."""
        again = f"{time}/" if time else ""
        return [each.name for each in candidates if draw.uniform(again + each.name) < self.rate]

"""Uniform sampling without replacement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import Candidate, Draw, Sizing


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """As many of the ready clients as the round wants, each with the same chance, nobody twice (McMahan et al. 2017).

    All of them where neither `rounds.clients` nor `rounds.fraction` says how many.
    """

    reads_metrics: ClassVar[bool] = False
    sizing: ClassVar[Sizing] = Sizing.ROUNDS

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """See `Selector`."""
        return sorted((each.name for each in candidates), key=draw.uniform)[: draw.size]

"""Everybody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import Candidate, Draw, Sizing


@dataclass(frozen=True, kw_only=True)
class All:
    """Every ready client trains, and all their updates are waited for.

    `rounds.min_clients` says how many must be ready before a round begins.
    """

    reads_metrics: ClassVar[bool] = False
    sizing: ClassVar[Sizing] = Sizing.ALL

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:  # noqa: ARG002
        """See `Selector`."""
        return [each.name for each in candidates]

"""Draws without replacement from the numbers that clients have in a draw."""

import math
from collections.abc import Callable, Iterable

from fedelta.parts import Candidate, Draw


def in_order(candidates: Iterable[Candidate], draw: Draw) -> list[Candidate]:
    """In the order of a uniform draw: whoever comes first is drawn first."""
    return sorted(candidates, key=lambda each: draw.uniform(each.name))


def by_weight(candidates: Iterable[Candidate], draw: Draw, weight: Callable[[Candidate], float]) -> list[Candidate]:
    """In the order of a draw with chances in proportion to weights (Efraimidis and Spirakis 2006).

    An infinite weight comes before all finite ones, 0 after all positive ones; among those the draw is uniform.
    """

    def key(each: Candidate) -> tuple[float, float]:
        number, weighs = draw.uniform(each.name), weight(each)
        return (-math.log1p(-number) / weighs if weighs else math.inf, number)

    return sorted(candidates, key=key)

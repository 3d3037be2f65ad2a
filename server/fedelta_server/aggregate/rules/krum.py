"""Rules that choose updates by their distances: Krum, Multi-Krum and Bulyan."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedelta.parts import Coordinatewise, Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta_server.aggregate.rules._columns import Row, mean, middle, sorted_rows

Distances = NDArray[np.float64]
Byzantine = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Krum:
    """The one update that is closest to most others (Blanchard et al. 2017, section 4).

    Its score is the sum of the squared distances to its n - f - 2 nearest others; the least wins. Every update counts
    the same, whatever its examples. It needs n >= 2f + 3 updates. Where clients' data differ much, what one of them
    learnt is little of what there is to learn: then rather multi-krum.
    """

    byzantine: Byzantine
    """f: how many of the updates may be wrong in whatever way."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.DISTANCES})
    facts: ClassVar[frozenset[str]] = frozenset()

    @property
    def least(self) -> int:
        """See `Aggregator`."""
        return 2 * self.byzantine + 3

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        return _mean_of(best(_distances(measured), self.byzantine, 1), len(updates))


@dataclass(frozen=True, kw_only=True)
class MultiKrum:
    """The mean of the updates with the least scores of Krum (Blanchard et al. 2017, section 4, m-Krum).

    Every update counts the same, whatever its examples. It needs n >= 2f + 3 updates.
    """

    byzantine: Byzantine
    """f: how many of the updates may be wrong in whatever way."""
    keep: Annotated[int, Meta(ge=1)] | None = None
    """How many updates are kept: at most n - f - 2, up to where the guarantee holds (El Mhamdi et al. 2021). Absent: so
    many."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.DISTANCES})
    facts: ClassVar[frozenset[str]] = frozenset()

    @property
    def least(self) -> int:
        """See `Aggregator`."""
        return max(2 * self.byzantine + 3, self.byzantine + 2 + (self.keep or 1))

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        keep = self.keep or len(updates) - self.byzantine - 2
        return _mean_of(best(_distances(measured), self.byzantine, keep), len(updates))


@dataclass(frozen=True, kw_only=True)
class Bulyan:
    """Krum chooses, and each coordinate is averaged around its median (El Mhamdi et al. 2018, section 4).

    One after the other, n - 2f updates are chosen by Krum among those that are left. Then each coordinate is the mean
    of the n - 4f values that are closest to their median. So no single coordinate can be far off either, which Krum
    allows in models of many parameters. Every update counts the same, whatever its examples. It needs n >= 4f + 3
    updates.
    """

    byzantine: Byzantine
    """f: how many of the updates may be wrong in whatever way."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.DISTANCES})
    facts: ClassVar[frozenset[str]] = frozenset()

    @property
    def least(self) -> int:
        """See `Aggregator`."""
        return 4 * self.byzantine + 3

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        chosen = iterated(_distances(measured), self.byzantine, len(updates) - 2 * self.byzantine)
        around = partial(around_median, keep=len(updates) - 4 * self.byzantine)
        return Coordinatewise(chosen=chosen, function=around)


def scores(distances: Distances, byzantine: int) -> list[float]:
    """Krum's score of each update: the sum of the squared distances to its n - f - 2 nearest others, exactly rounded.

    To its nearest one where that is less than one, as it happens at the end of Bulyan's choice.
    """
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    others.sort(axis=1)
    return [math.fsum(row) for row in others[:, : max(len(others) - byzantine - 2, 1)]]


def best(distances: Distances, byzantine: int, count: int) -> tuple[int, ...]:
    """The `count` updates with the least scores, in order; of equal ones the first."""
    found = scores(distances, byzantine)
    return tuple(sorted(sorted(range(len(found)), key=found.__getitem__)[:count]))


def iterated(distances: Distances, byzantine: int, count: int) -> tuple[int, ...]:
    """Krum's choice among all, then among the others, and so on until there are `count`; in order."""
    left = list(range(len(distances)))
    for _ in range(count):
        (first,) = best(distances[np.ix_(left, left)], byzantine, 1)
        del left[first]
    return _others(left, len(distances))


def around_median(values: NDArray[Any], *, keep: int) -> Row:
    """The mean of the `keep` values of each column that are closest to its median; of equally close ones the lesser."""
    rows = sorted_rows(values)
    center, found = middle(rows), mean(rows[:keep])
    # They lie side by side; one place further up is better where the value that comes in is closer than what goes.
    for goes, comes in zip(range(len(rows) - keep), range(keep, len(rows)), strict=True):
        closer = rows[comes] - center < center - rows[goes]
        np.copyto(found, mean(rows[goes + 1 : comes + 1]), where=closer)
    return found


def _distances(measured: Measured) -> Distances:
    assert measured.distances is not None, "asked for in `measures`"
    return measured.distances


def _mean_of(chosen: Sequence[int], count: int) -> Weighted:
    return Weighted(factors=tuple(1 / len(chosen) if index in chosen else 0.0 for index in range(count)))


def _others(indices: Collection[int], count: int) -> tuple[int, ...]:
    return tuple(index for index in range(count) if index not in indices)

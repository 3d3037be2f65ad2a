"""Rules that look at each coordinate for itself: median and trimmed mean."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from msgspec import Meta
from numpy.typing import NDArray

from fedelta.parts import Coordinatewise, Measure, Measured, Needs, Rule, Updates
from fedelta_server.aggregate.rules._columns import mean, middle, sorted_rows


@dataclass(frozen=True, kw_only=True)
class Median:
    """The median of each coordinate (Yin et al. 2018, algorithm 1, option I).

    It holds as long as less than half of the updates are wrong, whatever those say. Every update counts the same,
    whatever its examples. Of an even number it is the mean of the two in the middle.
    """

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        return Coordinatewise(chosen=tuple(range(len(updates))), function=_median)


def _median(values: NDArray[Any]) -> NDArray[Any]:
    return middle(sorted_rows(values))


@dataclass(frozen=True, kw_only=True)
class TrimmedMean:
    """The mean of each coordinate without its smallest and largest values (Yin et al. 2018, algorithm 1, option II).

    It holds as long as no more updates are wrong than are left out on one side. Every update counts the same, whatever
    its examples.
    """

    share: Annotated[float, Meta(gt=0, lt=0.5)] = 0.1
    """Which share of the values is left out on each side: rounded down, but one at least."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 3

    def trimmed(self, count: int) -> int:
        """How many of `count` values are left out on each side."""
        # As the decimal number that the job file says: 0.29 * 100 is less than 29.
        return max(1, int(Fraction(repr(self.share)) * count))

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        left_out = self.trimmed(len(updates))

        def trimmed_mean(values: NDArray[Any]) -> NDArray[Any]:
            return mean(sorted_rows(values)[left_out : len(values) - left_out])

        return Coordinatewise(chosen=tuple(range(len(updates))), function=trimmed_mean)

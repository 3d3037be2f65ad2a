"""What the sums of all sites say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedelta.statistics import _order
from fedelta.statistics._sheet import Column, Sheet

_UNIT = 2.0**-52
_INEXACT = 1e-6
"""A relative error of a variance from which on one should know of it."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many values lie in which bin."""

    edges: tuple[float, ...]
    """Of the bins, least first, one more than there are bins."""
    counts: tuple[int, ...]
    """By bin. A bin holds its lower edge, the last one both."""
    below: int
    """Values less than all edges."""
    above: int
    """Values greater than all edges."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One column over all sites. What was not asked for, or what no value is there for, is None or empty."""

    count: int
    """Values that are there."""
    missing: int
    """Values that are not."""
    mean: float | None = None
    variance: float | None = None
    """Mean squared deviation from the mean: divided by `count`, as numpy and scikit-learn have it."""
    deviation: float | None = None
    """Standard deviation, the square root of `variance`."""
    minimum: float | None = None
    maximum: float | None = None
    quantiles: Mapping[float, float] = field(default_factory=dict)
    """By level: the least value that at least this share of the values does not exceed ("inverted_cdf" in numpy)."""
    histogram: Histogram | None = None
    exact: bool = True
    """False where a variance from one round has lost digits, because the mean is many deviations from zero."""


def summarize(model: str | Path | Mapping[str, NDArray[Any]]) -> dict[str, Summary]:
    """Summaries by column, from the model of a statistics job: a file, or arrays by name.

    Raises `PayloadError` where it is no such model, or where the sites' answers do not fit together.
    """
    sheet = Sheet(_read(Path(model)) if isinstance(model, str | Path) else model)
    done = sheet.rounds_done
    return {column.name: _summary(column, sheet.levels, done) for column in sheet.columns}


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    from fedelta.models import read_arrays

    return read_arrays(path)


def _summary(column: Column, levels: NDArray[Any], rounds: int) -> Summary:
    count, missing, histogram = column.count, int(column.number("missing")), _histogram(column)
    if not count:
        return Summary(count=count, missing=missing, histogram=histogram)
    mean, variance, exact = _moments(column, count, rounds)
    found = _quantiles(column, levels, rounds)
    return Summary(
        count=count,
        missing=missing,
        mean=mean,
        variance=variance,
        deviation=math.sqrt(variance),
        minimum=found.get(0.0),
        maximum=found.get(1.0),
        quantiles={level: value for level, value in found.items() if 0 < level < 1},
        histogram=histogram,
        exact=exact,
    )


def _moments(column: Column, count: int, rounds: int) -> tuple[float, float, bool]:
    """Mean, variance, and whether the variance is exact but for rounding."""
    if column.find("squared_deviations") is not None and rounds > 1:
        off = column.number("deviations")
        spread = _spread(count, off, column.number("squared_deviations"))
        return column.mean + off / count, spread / count, True
    squares = column.number("sum_of_squares")
    spread = _spread(count, column.number("sum"), squares)
    return column.mean, spread / count, squares * _UNIT <= spread * _INEXACT


def _spread(count: int, total: float, squares: float) -> float:
    """Sum of squared deviations from the mean; 0 where it is less than the rounding errors of the sums."""
    found = squares - total * total / count
    return found if found > 4 * _UNIT * squares else 0.0


def _quantiles(column: Column, levels: NDArray[Any], rounds: int) -> dict[float, float]:
    order = column.find("order")
    if order is None or rounds < _order.ROUNDS:
        return {}
    places = (_order.found(level, column.count, order[:, target]) for target, level in enumerate(levels))
    return {float(level): _order.value_of(place.prefix) for level, place in zip(levels, places, strict=True)}


def _histogram(column: Column) -> Histogram | None:
    edges, counts = column.find("edges"), column.find("histogram")
    if edges is None or counts is None:
        return None
    below, *inside, above = (int(count) for count in counts)
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(inside), below=below, above=above)

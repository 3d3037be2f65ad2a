"""The model of a statistics job: float64 tensors, zeros at first, to which every site adds its own numbers.

A column's tensors are named after it: `age.count`, `age.missing`, `age.sum`, `age.sum_of_squares`, and where asked for
`age.histogram` beside `age.edges`, `age.deviations`, `age.squared_deviations` and `age.order`. `sites` counts who
answered in each round. What is added in one round is zero before it: a difference of two models is then exact, and
every round's numbers can be read later.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import PayloadError
from fedelta.statistics import _order
from fedelta.statistics._request import Request

Array = NDArray[Any]

SITES = "sites"
LEVELS = "levels"


def empty(request: Request, columns: Iterable[str]) -> dict[str, Array]:
    """The model in which nobody has answered yet."""
    arrays: dict[str, Array] = {SITES: np.zeros(request.rounds)}
    if request.levels:
        arrays[LEVELS] = np.array(request.levels)
    for column in columns:
        arrays |= {f"{column}.{what}": values for what, values in _column(request, column)}
    return arrays


def _column(request: Request, column: str) -> Iterator[tuple[str, Array]]:
    for what in ("count", "missing", "sum", "sum_of_squares"):
        yield what, np.zeros(())
    if column in request.edges:
        yield "edges", np.array(request.edges[column])
        # One more at each end, for what lies below and above.
        yield "histogram", np.zeros(len(request.edges[column]) + 1)
    if request.rounds > 1:
        yield "deviations", np.zeros(())
        yield "squared_deviations", np.zeros(())
    if request.levels:
        yield "order", np.zeros((_order.ROUNDS, len(request.levels), _order.FANOUT))


@dataclass(frozen=True)
class Column:
    """One column's tensors. What they say is the sum over the sites that answered so far."""

    name: str
    arrays: Mapping[str, Array]

    def find(self, what: str) -> Array | None:
        """A tensor of the column; None where it was not asked for."""
        return self.arrays.get(f"{self.name}.{what}")

    def number(self, what: str) -> float:
        """A tensor of one value. Raises `PayloadError` where it is missing."""
        found = self.find(what)
        if found is None or found.shape != ():
            raise PayloadError(f"tensor '{self.name}.{what}' is missing: the model is no result of a statistics job")
        return float(found)

    def add(self, what: str, numbers: Any) -> None:
        """Adds a site's numbers to a tensor, if that was asked for."""
        found = self.find(what)
        if found is not None:
            found += numbers

    @property
    def count(self) -> int:
        """Values that are there. Raises `PayloadError` where that is no whole number: then it is no sum."""
        found = self.number("count")
        if not found.is_integer():
            raise PayloadError(
                f"'{self.name}.count' is {found:g}, no whole number; a statistics job needs aggregator.name = \"sum\""
            )
        return int(found)

    @property
    def mean(self) -> float:
        """As round 1 gave it; 0 without values."""
        return self.number("sum") / self.count if self.count else 0.0


@dataclass(frozen=True)
class Sheet:
    """The whole model, from the arrays of a file or of a learner."""

    arrays: Mapping[str, Array]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns by name."""
        names = sorted(name.removesuffix(".count") for name in self.arrays if name.endswith(".count"))
        return tuple(Column(name, self.arrays) for name in names)

    @property
    def levels(self) -> Array:
        """The quantiles to find."""
        return self.arrays.get(LEVELS, np.empty(0))

    @property
    def sites(self) -> Array:
        """How many sites answered, by round. Raises `PayloadError` where that changed from round to round."""
        sites = self.arrays.get(SITES)
        if sites is None or sites.ndim != 1:
            raise PayloadError("tensor 'sites' is missing: the model is no result of a statistics job")
        done = sites[sites != 0]
        if len(set(done)) > 1:
            counts = ", ".join(f"{count:g}" for count in done)
            raise PayloadError(
                f"{counts} sites answered in the rounds so far: their sums do not fit together. Submit the statistics "
                "again, with --min-clients as the number of sites"
            )
        return sites

    @property
    def rounds_done(self) -> int:
        """Rounds that were answered."""
        return int(np.count_nonzero(self.sites))

"""What a job asks of the sites: its [model.arguments]."""

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from fedelta.config import bind
from fedelta.errors import ConfigError
from fedelta.statistics import _order

LEARNER = "statistics"
"""What jobs call the learner that answers."""

SOURCE = "model.arguments"

Level = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Request:
    """[model.arguments] of a job for the learner "statistics"."""

    columns: tuple[Name, ...] = ()
    """The columns to summarize. Empty: all that are numeric, which must then be the same at all sites."""
    edges: Mapping[Name, tuple[float, ...]] = field(default_factory=dict)
    """The edges of the bins of a histogram, by column. As in numpy each bin holds its lower edge, the last one both."""
    quantiles: tuple[Level, ...] = ()
    """Which quantiles to find, each between 0 and 1; 0.5 is the median. They are values of single rows."""
    range: bool = False
    """Whether to find minimum and maximum. They are values of single rows."""
    precise: bool = False
    """Whether a second round sums squared deviations from the mean, for variances without cancellation."""

    def __post_init__(self) -> None:
        """Raises `ConfigError` where keys contradict each other."""
        if len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"{SOURCE}.columns: a column is named twice")
        for column, edges in self.edges.items():
            _check_edges(column, edges)
        if self.columns:
            self.among(self.columns)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Request":
        """Reads the arguments of `model()`. Raises `ConfigError` naming the key."""
        return bind(cls, arguments, SOURCE)

    def among(self, numeric: Collection[str]) -> Collection[str]:
        """The columns to summarize where these are numeric. Raises `ConfigError` on edges for another column."""
        found = self.columns or numeric
        odd = next((column for column in self.edges if column not in found), None)
        if odd is not None:
            raise ConfigError(f"{SOURCE}.edges: {odd!r} is not among the columns {', '.join(found)}")
        return found

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles to find, minimum (0) and maximum (1) included, least first."""
        ends = (0.0, 1.0) if self.range else ()
        return tuple(sorted({*ends, *map(float, self.quantiles)}))

    @property
    def rounds(self) -> int:
        """How many rounds it takes to find all of it."""
        return _order.ROUNDS if self.levels else 2 if self.precise else 1


def _check_edges(column: str, edges: tuple[float, ...]) -> None:
    rising = all(low < high for low, high in itertools.pairwise(edges))
    if len(edges) < 2 or not rising or not all(map(math.isfinite, edges)):
        raise ConfigError(
            f"{SOURCE}.edges: those of {column!r} must be two finite numbers or more, each above the last"
        )

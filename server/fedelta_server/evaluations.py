"""What the evaluations of a job's versions gave, from its records."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind

Closed = records.RoundClosed | records.EvaluationClosed
"""Records that may tell of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a metric's values at the clients are spread, each client counting once."""

    min: float
    median: float
    p90: float
    """The 90th percentile by nearest rank: the least value that 90 % of the clients do not exceed."""
    max: float


def evaluations(closed: Iterable[Closed]) -> dict[int, records.EvaluationClosed]:
    """The evaluations by version, sorted. Of a version that was evaluated again only the last one counts."""
    found = filter(None, map(_evaluation, closed))
    return dict(sorted({each.version: each for each in found}.items()))


def measured(closed: Iterable[Closed], without: Collection[int] = ()) -> dict[int, Mapping[str, float]]:
    """The averages of each evaluated version, as `EvaluationClosed.measured` names them; `without` these versions."""
    found = evaluations(closed).items()
    return {version: evaluation.measured for version, evaluation in found if version not in without}


def _evaluation(closed: Closed) -> records.EvaluationClosed | None:
    if isinstance(closed, records.EvaluationClosed):
        return closed
    if not closed.metrics:
        return None
    # A journal of before there was `EvaluationClosed`: the round waited for its evaluation, whose time was not noted.
    return records.EvaluationClosed(
        job=closed.job,
        version=closed.number,
        attempt=closed.attempts,
        seconds=0.0,
        clients=[part for part in closed.clients if part.phase is PhaseKind.EVALUATE],
        metrics=closed.metrics,
    )


def spreads(parts: Iterable[records.Participation]) -> dict[str, Spread]:
    """How each metric is spread over the clients that reported it, but for those that evaluate only."""
    values: dict[str, list[float]] = {}
    for part in parts:
        if part.outcome is Outcome.ACCEPTED and not part.central:
            for name, value in part.metrics.items():
                values.setdefault(name, []).append(value)
    return {name: spread(found) for name, found in sorted(values.items())}


def spread(values: Sequence[float]) -> Spread:
    """The spread of one or more values."""
    ordered = sorted(values)
    ninetieth = ordered[math.ceil(len(ordered) * 9 / 10) - 1]
    return Spread(min=ordered[0], median=statistics.median(ordered), p90=ninetieth, max=ordered[-1])

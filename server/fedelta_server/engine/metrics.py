"""By which metric versions are compared."""

from collections.abc import Iterable, Mapping

from fedelta.config import EvaluateConfig
from fedelta_server.engine.records import CENTRAL

USUAL: tuple[tuple[str, str], ...] = (
    ("accuracy", "max"),
    ("loss", "min"),
    (f"{CENTRAL}accuracy", "max"),
    (f"{CENTRAL}loss", "min"),
)
"""What versions are compared by where a job does not say, in this order, with the goal of each."""

Measured = Mapping[int, Mapping[str, float]]
"""What was measured of versions, by version and metric."""


def deciding(evaluate: EvaluateConfig, measured: Measured) -> tuple[str, str]:
    """The metric that counts for a job, and its goal."""
    if evaluate.metric:
        return evaluate.metric, evaluate.goal
    reported = reported_in(measured.values())
    return next((usual for usual in USUAL if usual[0] in reported), USUAL[0])


def reported_in(metrics: Iterable[Mapping[str, float]]) -> set[str]:
    """The names of all metrics that were reported at all."""
    return {name for each in metrics for name in each}

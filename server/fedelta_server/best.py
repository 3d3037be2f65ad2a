"""The best version of a job."""

from collections.abc import Iterable, Mapping

from fedelta.config import EvaluateConfig
from fedelta_server.engine.records import CENTRAL

_USUAL: tuple[tuple[str, str], ...] = (
    ("accuracy", "max"),
    ("loss", "min"),
    (f"{CENTRAL}accuracy", "max"),
    (f"{CENTRAL}loss", "min"),
)
"""What versions are compared by where a job does not say, in this order, with the goal of each."""

Measured = Mapping[int, Mapping[str, float]]
"""What was measured of versions, by version and metric."""


def best_version(evaluate: EvaluateConfig, measured: Measured) -> int | None:
    """The version with the best evaluation, the earlier of equals. None: none was evaluated by what counts."""
    metric, goal = _measure(evaluate, measured)
    found = {version: metrics[metric] for version, metrics in measured.items() if metric in metrics}
    if not found:
        return None
    pick = max if goal == "max" else min
    value = pick(found.values())
    return min(version for version, each in found.items() if each == value)


def _measure(evaluate: EvaluateConfig, measured: Measured) -> tuple[str, str]:
    """The metric that counts, and its goal."""
    if evaluate.metric:
        return evaluate.metric, evaluate.goal
    reported = _reported(measured.values())
    return next((usual for usual in _USUAL if usual[0] in reported), _USUAL[0])


def _reported(metrics: Iterable[Mapping[str, float]]) -> set[str]:
    return {name for each in metrics for name in each}


def why_none(evaluate: EvaluateConfig, measured: Measured) -> str:
    """Why there is no best version, in words."""
    reported = _reported(measured.values())
    if not reported:
        return 'none of its versions was evaluated; name "latest" or a number'
    wanted = evaluate.metric or " or ".join(name for name, _ in _USUAL[:2])
    return f"its clients report {', '.join(sorted(reported))}, but not {wanted}; evaluate.metric says what counts"

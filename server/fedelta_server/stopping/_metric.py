"""The values of the metric that a rule looks at."""

from collections.abc import Mapping
from typing import Literal

from fedelta.parts import History

Goal = Literal["max", "min"]


def values(history: History, metric: str) -> Mapping[int, float]:
    """A metric's values by version, the earliest first. Empty name: that of the job."""
    name = metric or history.metric
    return {version: found[name] for version, found in sorted(history.evaluations.items()) if name in found}


def goal_of(history: History, metric: str) -> str:
    """Whether more of a metric is better: as the job says of its own, else less is only of a loss."""
    if metric in ("", history.metric):
        return history.goal
    return "min" if metric.rpartition("/")[2] == "loss" else "max"

"""The best version of a job."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from fedelta.config import EvaluateConfig

_USUAL: tuple[tuple[str, str], ...] = (("accuracy", "max"), ("loss", "min"))
"""What versions are compared by where a job does not say, in this order, with the goal of each."""


class Evaluated(Protocol):
    """A round with what its evaluation gave."""

    @property
    def number(self) -> int:
        """The round's, and that of the version it made."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Empty where it was not evaluated."""
        ...


def best_version(evaluate: EvaluateConfig, rounds: Sequence[Evaluated]) -> int | None:
    """The version with the best evaluation, the earlier of equals. None: none was evaluated by what counts."""
    metric, goal = _measure(evaluate, rounds)
    found = [(closed.metrics[metric], closed.number) for closed in rounds if metric in closed.metrics]
    if not found:
        return None
    pick = max if goal == "max" else min
    value = pick(value for value, _ in found)
    return min(number for each, number in found if each == value)


def _measure(evaluate: EvaluateConfig, rounds: Sequence[Evaluated]) -> tuple[str, str]:
    """The metric that counts, and its goal."""
    if evaluate.metric:
        return evaluate.metric, evaluate.goal
    reported = _reported(rounds)
    return next((usual for usual in _USUAL if usual[0] in reported), _USUAL[0])


def _reported(rounds: Sequence[Evaluated]) -> set[str]:
    return {name for closed in rounds for name in closed.metrics}


def why_none(evaluate: EvaluateConfig, rounds: Sequence[Evaluated]) -> str:
    """Why there is no best version, in words."""
    reported = _reported(rounds)
    if not reported:
        return 'none of its versions was evaluated; name "latest" or a number'
    wanted = evaluate.metric or " or ".join(name for name, _ in _USUAL)
    return f"its clients report {', '.join(sorted(reported))}, but not {wanted}; evaluate.metric says what counts"

"""Checks of what a learner returns."""

import math
import operator
from collections.abc import Mapping
from typing import Any

from fedelta.errors import LearnerError, WeightError
from fedelta.learner import MAX_EXAMPLES, EvalResult, TrainResult


def checked(result: object, kind: type[TrainResult] | type[EvalResult], method: str) -> tuple[int, dict[str, float]]:
    """The examples and metrics of what a learner's `method` returned.

    Raises `WeightError` or `LearnerError`, which say what is wrong with it.
    """
    if not isinstance(result, kind):
        raise LearnerError(f"{method}() returned a {type(result).__name__}; return a fedelta.{kind.__name__}")
    return _examples(result.examples, method), _metrics(result.metrics, method)


def _examples(value: Any, method: str) -> int:
    try:
        examples = operator.index(value)
    except TypeError:
        raise WeightError(f"{method}() returned examples={value!r}; it must be an integer") from None
    if not 1 <= examples <= MAX_EXAMPLES:
        raise WeightError(f"{method}() returned examples={examples}; it must be from 1 to {MAX_EXAMPLES}")
    return examples


def _metrics(metrics: Mapping[str, Any], method: str) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise LearnerError(f"{method}() returned a {type(metrics).__name__} for metrics; return a dict of numbers")
    return {name: _metric(name, value, method) for name, value in metrics.items()}


def _metric(name: object, value: Any, method: str) -> float:
    if not isinstance(name, str) or not name:
        raise LearnerError(f"{method}() returned a metric named {name!r}; names must be non-empty strings")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise LearnerError(f"{method}() returned metric {name!r} = {value!r}, which is not a number") from None
    if not math.isfinite(number):
        raise LearnerError(f"{method}() returned metric {name!r} = {number}, which is not finite")
    return number

"""Calls a learner's `model()` with a job's arguments, and says what is wrong with those that do not fit."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from fedelta.errors import LearnerError
from fedelta.learner import Learner

_OPEN = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def needs_no_arguments(learner: Learner) -> bool:
    """Whether `model()` can be called without any. Of one that takes `**arguments` nobody knows."""
    parameters = _parameters(learner)
    return not _required(parameters) and not _takes_any(parameters)


def build_model(learner: Learner, arguments: Mapping[str, Any]) -> Any:
    """A new model. Raises `LearnerError` naming an argument that `model()` does not take, or one that is missing."""
    _check(learner, arguments)
    build: Callable[..., Any] = learner.model
    return build(**arguments)


def _check(learner: Learner, arguments: Mapping[str, Any]) -> None:
    parameters = _parameters(learner)
    known = [each.name for each in parameters if each.kind not in _OPEN]
    model = f"{type(learner).__name__}.model()"
    unknown = next((name for name in arguments if name not in known), None)
    if unknown is not None and not _takes_any(parameters):
        raise LearnerError(f"{model} takes no argument {unknown!r}{_suggest(unknown, known)}")
    missing = next((name for name in _required(parameters) if name not in arguments), None)
    if missing is not None:
        raise LearnerError(f"{model} needs the argument {missing!r}; give it in [model.arguments] of the job file")


def _parameters(learner: Learner) -> list[Parameter]:
    return list(inspect.signature(learner.model).parameters.values())


def _required(parameters: list[Parameter]) -> list[str]:
    return [each.name for each in parameters if each.default is Parameter.empty and each.kind not in _OPEN]


def _takes_any(parameters: list[Parameter]) -> bool:
    return any(each.kind is Parameter.VAR_KEYWORD for each in parameters)


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}? It takes {', '.join(known)}"
    return f"; it takes {', '.join(known) or 'none'}"

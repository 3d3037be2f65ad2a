"""What one assignment does at a client: the client's trainer process and the simulation both call this."""

import difflib
import gc
import importlib
import inspect
import json
import math
import operator
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fedelta._arguments import build_model, needs_no_arguments
from fedelta.errors import LearnerError, PayloadError, WeightError
from fedelta.learner import MAX_EXAMPLES, EvalResult, Learner, Task, TrainResult
from fedelta.models import ModelState, Written, bind_model, is_torch_module, read_arrays, write_arrays

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})
"""For a job without [model.arguments]."""


@dataclass(frozen=True, kw_only=True)
class StateFiles:
    """Where a learner's durable state is between two assignments of a job."""

    load: Path | None
    """The state to begin with. None: there is none."""
    save: Path
    """Where the state after training goes, over what is there."""


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """What training made."""

    examples: int
    """Weight of the update, from 1 to `MAX_EXAMPLES`."""
    metrics: dict[str, float]
    """Finite numbers by name."""
    written: Written
    """The update file."""
    state_saved: bool
    """Whether the learner gave a state, which is now in the file `StateFiles.save`."""
    seconds: float
    """How long the learner trained."""


@dataclass(frozen=True, kw_only=True)
class EvalOutcome:
    """What evaluation made."""

    examples: int
    """Weight of the metrics, from 1 to `MAX_EXAMPLES`."""
    metrics: dict[str, float]
    """Finite numbers by name."""
    seconds: float
    """How long the learner evaluated."""


@dataclass(frozen=True, kw_only=True)
class _Built:
    """A model object, and what it was built with."""

    arguments: str
    model: Any
    state: ModelState


class Workbench:
    """A learner with its one model object. Not for use by several threads at a time.

    The learner must have been set up. What it raises comes through as it is; `LearnerError` or `WeightError` say
    that what it returned cannot be used, or that its `model()` does not take the job's arguments.

    One that surely needs no arguments is built here, so that one that cannot be built is found before there is work.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._durable = type(learner).durable_state is not Learner.durable_state
        self._built: _Built | None = None
        if needs_no_arguments(learner):
            self._have(NO_ARGUMENTS)

    def train(
        self,
        task: Task,
        model: Path,
        out: Path,
        *,
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        state: StateFiles | None = None,
    ) -> TrainOutcome:
        """Trains from the model file `model`, writes the update file `out`.

        `arguments` are those of the learner's `model()`, as JSON has them. With `state` a learner that has durable
        state gets it back first; afterwards it is on disk. Without, the learner starts afresh and nothing is kept.
        """
        built = self._have(arguments)
        built.state.load(model)
        self._load_durable(state)
        _begin(task, built.model, training=True)
        began = time.perf_counter()
        result = self._learner.train(built.model, task)
        seconds = time.perf_counter() - began
        examples, metrics = _checked(result, TrainResult, "train")
        written = built.state.write_delta(model, out)
        saved = self._save_durable(state)
        return TrainOutcome(examples=examples, metrics=metrics, written=written, state_saved=saved, seconds=seconds)

    def evaluate(self, task: Task, model: Path, *, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> EvalOutcome:
        """Evaluates the model file `model`. `arguments`: as for `train`."""
        built = self._have(arguments)
        built.state.load(model)
        _begin(task, built.model, training=False)
        began = time.perf_counter()
        result = self._learner.evaluate(built.model, task)
        seconds = time.perf_counter() - began
        examples, metrics = _checked(result, EvalResult, "evaluate")
        return EvalOutcome(examples=examples, metrics=metrics, seconds=seconds)

    def initialize(self, task: Task, out: Path, *, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> Written:
        """Builds a fresh model from the task's seed and writes it to `out` as a model file."""
        return initialize(self._learner, task, out, arguments=arguments)

    def _have(self, arguments: Mapping[str, Any]) -> _Built:
        """The model object that was built with these arguments. There is no other one at the same time."""
        # As text: to Python 1, 1.0 and True are equal.
        wanted = json.dumps(dict(arguments), sort_keys=True, default=repr)
        if self._built is None or self._built.arguments != wanted:
            if self._built is not None:
                self._built = None
                gc.collect()  # modules may refer to each other in circles
            model = build_model(self._learner, arguments)
            self._built = _Built(arguments=wanted, model=model, state=bind_model(model))
        return self._built

    def _load_durable(self, state: StateFiles | None) -> None:
        if self._durable:
            kept = None if state is None else state.load
            self._learner.load_durable_state({} if kept is None else read_arrays(kept))

    def _save_durable(self, state: StateFiles | None) -> bool:
        """Whether there was something to save."""
        if not self._durable or state is None:
            return False
        named = self._learner.durable_state()
        if named is None:
            return False
        try:
            write_arrays(named, state.save)
        except (LearnerError, PayloadError) as error:
            raise LearnerError(f"durable_state(): {error}") from None
        return True


def _begin(task: Task, model: Any, *, training: bool) -> None:
    seed_everything(task.seed)
    if is_torch_module(model):
        model.train(training)


def initialize(learner: Learner, task: Task, out: Path, *, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> Written:
    """Seeds, builds a fresh model and writes it to `out`: the same seed and arguments give the same file everywhere."""
    seed_everything(task.seed)
    return bind_model(build_model(learner, arguments)).write_model(out)


def seed_everything(seed: int) -> None:
    """Seeds Python's and numpy's global generators, and torch's (all devices) where torch is loaded."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def load_learner(spec: str) -> Learner:
    """Makes the learner "module:Class"; modules are found in the working directory too.

    Raises `LearnerError`, which says what is wrong and what helps.
    """
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise LearnerError(f'{spec!r} names no learner; write "module:Class", for example "digits:Digits"')
    module = _import(module_name)
    kind = getattr(module, class_name, None)
    if kind is None:
        raise LearnerError(f"module {module_name!r} has no class {class_name!r}{_suggest(module, class_name)}")
    if not (isinstance(kind, type) and issubclass(kind, Learner)):
        raise LearnerError(f"{spec} is not a learner: derive it from fedelta.Learner")
    try:
        return kind()
    except Exception as error:
        raise LearnerError(
            f"{spec}() raised {_described(error)}. A learner is made without arguments; read data in setup()"
        ) from error


def offered_name(learner: type[Learner], spec: str) -> str:
    """What jobs call the learner: its own name, or the "module:Class" it was loaded by."""
    return learner.name or spec


def _import(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script that was meant to be run may exit
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            remedy = "start the client where the file is, or install its package"
            raise LearnerError(f"no module {error.name!r} in {here} or among the installed ones; {remedy}") from None
        raise LearnerError(f"importing {name!r} raised {_described(error)}") from error


def _suggest(module: Any, wanted: str) -> str:
    learners = [
        name
        for name, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Learner) and value is not Learner
    ]
    near = difflib.get_close_matches(wanted, learners, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; its learners are {', '.join(learners)}" if learners else "; it defines no learner"


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _checked(result: object, kind: type[TrainResult] | type[EvalResult], method: str) -> tuple[int, dict[str, float]]:
    """The examples and metrics of what the learner returned."""
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

"""What one assignment does at a client: the client's trainer process and the simulation both call this."""

import difflib
import gc
import importlib
import inspect
import json
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fedelta._answers import checked
from fedelta._arguments import build_model, needs_no_arguments
from fedelta._keeping import Kept, StateFiles
from fedelta.errors import LearnerError
from fedelta.learner import EvalResult, Learner, Task, TrainResult
from fedelta.local import NO_PLAN, ClientPlan, given_by, local_part, read_shared, telling
from fedelta.models import PERSONAL, Bound, Written, bind_split, is_torch_module, read_sections, split_model
from fedelta.parts import LocalTraining, Site

__all__ = [
    "EvalOutcome",
    "StateFiles",
    "TrainOutcome",
    "Workbench",
    "initialize",
    "load_learner",
    "offered_name",
    "seed_everything",
]

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})
"""For a job without [model.arguments]."""


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
    """Whether there is something to keep, which is now in the file `StateFiles.save`."""
    seconds: float
    """How long the learner trained."""
    facts: dict[str, float] = field(default_factory=dict)
    """What the plan wants to know of the update: finite numbers by name."""


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

    key: str
    model: Any
    bound: Bound


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A plan and its part, which takes time to find."""

    plan: ClientPlan
    part: LocalTraining


class Workbench:
    """A learner with its one model object. Not for use by several threads at a time.

    The learner must have been set up. What it raises comes through as it is; `LearnerError` or `WeightError` say
    that what it returned cannot be used, that its `model()` does not take the job's arguments, or that it cannot train
    as the plan says.

    A model that surely needs no arguments is built here, so that one that cannot be built is found before there is
    work.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._built: _Built | None = None
        self._planned: _Planned | None = None
        if needs_no_arguments(learner):
            self._have(NO_ARGUMENTS, NO_PLAN)

    def train(
        self,
        task: Task,
        model: Path,
        out: Path,
        *,
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        state: StateFiles | None = None,
        plan: ClientPlan = NO_PLAN,
        shared: Path | None = None,
    ) -> TrainOutcome:
        """Trains from the model file `model`, writes the update file `out`.

        `arguments` are those of the learner's `model()`, as JSON has them. With `state` what is kept from assignment to
        assignment is read first, and written afterwards; without, all starts afresh and nothing is kept. `shared` is
        the file of what the plan shares beside the model; None: all zeros.
        """
        built, part = self._have(arguments, plan), self._part(plan)
        kept = Kept.read(state)
        built.bound.load(model, kept.sections.get(PERSONAL, {}))
        kept.give_back(self._learner)
        site = Site(
            learner=self._learner,
            model=built.model,
            task=task,
            tensors=frozenset(built.bound.state.schema.update.by_name),
            shared=read_shared(shared, part.shared),
            kept=kept.of_part(plan.part_name),
        )
        _begin(task, built.model, training=False)
        with telling(plan.facts, part, site) as facts:
            _begin(task, built.model, training=True)
            began = time.perf_counter()
            done = part.train(site)
            seconds = time.perf_counter() - began
        self._check_own(built)
        examples, metrics = checked(done.result, TrainResult, "train")
        given = given_by(done, part.shared, site.tensors)
        written = built.bound.state.write_delta(model, out, given=given, shared=part.shared)
        saved = kept.save(self._learner, built.bound.own, part, plan.part_name, done.keep)
        return TrainOutcome(
            examples=examples, metrics=metrics, written=written, state_saved=saved, seconds=seconds, facts=facts
        )

    def evaluate(
        self,
        task: Task,
        model: Path,
        *,
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        state: Path | None = None,
        plan: ClientPlan = NO_PLAN,
    ) -> EvalOutcome:
        """Evaluates the model file `model`. `arguments` and `plan`: as for `train`; `state`: as `StateFiles.load`."""
        built = self._have(arguments, plan)
        built.bound.load(model, read_sections(state).get(PERSONAL, {}) if plan.personal else {})
        _begin(task, built.model, training=False)
        began = time.perf_counter()
        result = self._learner.evaluate(built.model, task)
        seconds = time.perf_counter() - began
        examples, metrics = checked(result, EvalResult, "evaluate")
        return EvalOutcome(examples=examples, metrics=metrics, seconds=seconds)

    def initialize(
        self, task: Task, out: Path, *, arguments: Mapping[str, Any] = NO_ARGUMENTS, plan: ClientPlan = NO_PLAN
    ) -> Written:
        """Builds a fresh model from the task's seed and writes it to `out` as a model file."""
        return initialize(self._learner, task, out, arguments=arguments, plan=plan)

    def _have(self, arguments: Mapping[str, Any], plan: ClientPlan) -> _Built:
        """The model object that was built with these arguments. There is no other one at the same time."""
        # As text: to Python 1, 1.0 and True are equal.
        wanted = json.dumps([dict(arguments), plan.splitting], sort_keys=True, default=repr)
        if self._built is None or self._built.key != wanted:
            if self._built is not None:
                self._built = None
                gc.collect()  # modules may refer to each other in circles
            model = _build(self._learner, arguments, plan)
            self._built = _Built(key=wanted, model=model, bound=_bind(model, plan))
        return self._built

    def _check_own(self, built: _Built) -> None:
        """What does not travel must be as it was built; a model of which it is not is built anew next time."""
        try:
            built.bound.own.check()
        except LearnerError:
            self._built = None
            raise

    def _part(self, plan: ClientPlan) -> LocalTraining:
        """The plan's part of [local]."""
        if self._planned is None or self._planned.plan != plan:
            self._planned = _Planned(plan=plan, part=local_part(plan))
        return self._planned.part


def _begin(task: Task, model: Any, *, training: bool) -> None:
    seed_everything(task.seed)
    if is_torch_module(model):
        model.train(training)


def _build(learner: Learner, arguments: Mapping[str, Any], plan: ClientPlan) -> Any:
    """A model object. Where some of its tensors stay as they are built, they are the same at every client."""
    if plan.splits:
        seed_everything(plan.seed)
    return build_model(learner, arguments)


def _bind(model: Any, plan: ClientPlan) -> Bound:
    if not plan.splits:
        return bind_split(model, None)
    return bind_split(model, split_model(model, trainable=plan.tensors == "trainable", personal=plan.personal))


def initialize(
    learner: Learner,
    task: Task,
    out: Path,
    *,
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
    plan: ClientPlan = NO_PLAN,
) -> Written:
    """Seeds, builds a fresh model and writes it to `out`: the same seed and arguments give the same file everywhere.

    `plan` says which of its tensors are the job's model.
    """
    seed_everything(task.seed)
    return _bind(build_model(learner, arguments), plan).state.write_model(out)


def seed_everything(seed: int) -> None:
    """Seeds Python's and numpy's global generators, and torch's (all devices) where torch is loaded."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    if _may_compute_elsewhere(torch):
        torch.manual_seed(seed)
    else:
        # That would keep a seed and a traceback for each kind of device that is not there, and for ever.
        torch.default_generator.manual_seed(seed)


def _may_compute_elsewhere(torch: Any) -> bool:
    """Whether there is an accelerator, as far as this torch can say."""
    accelerator = getattr(torch, "accelerator", None)
    return accelerator is None or bool(accelerator.is_available())


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

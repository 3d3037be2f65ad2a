"""The clients whose work one process does: their learners, made when they are needed."""

import json
import os
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedelta.errors import FedeltaError, LearnerError, PayloadError
from fedelta.execution import StateFiles, TrainOutcome, Workbench, load_learner
from fedelta.learner import Learner, Task
from fedelta.local import read_plan
from fedelta.models import Written
from fedelta.tensors import Schema
from fedelta_server.aggregate import admit_model, admit_update, check_facts, read_schema
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.simulation._work import Answer, Failed, Finished, LearnerSource, Setting, Work, described

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


MODELS_BYTES = 512 << 20
"""The model objects of the learners that stay in a process take about so much, at most."""


class Benches:
    """Does assignments of any client, one at a time.

    The learners that were used last stay, each with its model object, as they do at clients; a learner that has to go
    is made again when its client's turn comes.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._config = json.loads(setting.config)
        self._arguments = json.loads(setting.arguments)
        self._plan = read_plan(setting.plan)
        self._resident: OrderedDict[int, Workbench] = OrderedDict()
        self._schema: Schema | None = None

    def do(self, work: Work) -> Answer:
        """Does an assignment. What goes wrong in the learner or is wrong with its result is a `Failed`.

        Raises `LearnerError` naming the client where its learner cannot be had: a real client would not start.
        """
        bench = self._bench(work)
        try:
            return self._done(bench, work)
        except (Exception, SystemExit) as error:  # of the learner, whatever it is
            return Failed(outcome=Outcome.FAILED, reason=_reason(error), traceback=_where(error))

    def _done(self, bench: Workbench, work: Work) -> Answer:
        task = self._task(work)
        if work.model is None:
            written = bench.initialize(task, work.out, arguments=self._arguments, plan=self._plan)
            return self._admitted(work, written)
        if work.phase is PhaseKind.EVALUATE:
            seen = bench.evaluate(task, work.model, state=work.state, arguments=self._arguments, plan=self._plan)
            return Finished(examples=seen.examples, metrics=seen.metrics)
        made = bench.train(
            task,
            work.model,
            work.out,
            state=StateFiles(load=work.state, save=work.state_out),
            shared=work.shared,
            arguments=self._arguments,
            plan=self._plan,
        )
        return self._admitted(work, made.written, made)

    def _admitted(self, work: Work, written: Written, made: TrainOutcome | None = None) -> Answer:
        """What the coordinator says to a file: an initial model, or what training made."""
        try:
            if made is None or work.model is None:
                admit_model(work.out, written.digest, written.length)
                return Finished(digest=written.digest, length=written.length)
            facts = check_facts(made.facts, self._setting.facts)
            schema = self._schema_of(work.model)
            admit_update(work.out, schema, written.digest, written.length, self._setting.shared)
        except PayloadError as error:
            return Failed(outcome=Outcome.REJECTED, reason=str(error))
        return Finished(
            examples=made.examples,
            metrics=made.metrics,
            facts=facts,
            digest=written.digest,
            length=written.length,
            state_saved=made.state_saved,
        )

    def _schema_of(self, model: Path) -> Schema:
        """A job's versions have one schema."""
        if self._schema is None:
            self._schema = read_schema(model)
        return self._schema

    def _task(self, work: Work) -> Task:
        return Task(
            job=self._setting.job,
            round=work.round,
            client=work.client,
            seed=work.seed,
            config=self._config,
            device=self._setting.device,
        )

    def _bench(self, work: Work) -> Workbench:
        found = self._resident.get(work.index)
        if found is None:
            while len(self._resident) >= self._room(work.model):
                self._resident.popitem(last=False)
            found = self._resident[work.index] = self._made(work)
        self._resident.move_to_end(work.index)
        return found

    def _room(self, model: Path | None) -> int:
        """How many learners may stay, with a model object each."""
        fit = self._setting.resident if model is None else MODELS_BYTES // max(1, model.stat().st_size)
        return max(1, min(self._setting.resident, fit))

    def _made(self, work: Work) -> Workbench:
        learner = make_learner(self._setting.learner)
        try:
            learner.data = self._setting.source.data(work.index)
            learner.device = self._setting.device
            learner.setup()
            return Workbench(learner)
        except FedeltaError as error:
            raise type(error)(f"client {work.client!r}: {error}") from error
        except (Exception, SystemExit) as error:
            raise LearnerError(f"client {work.client!r} cannot start: {described(error)}") from error


def make_learner(source: LearnerSource) -> Learner:
    """A learner that has read nothing yet. Raises `LearnerError`."""
    if isinstance(source, str):
        return load_learner(source)
    made = source()
    if not isinstance(made, Learner):
        raise LearnerError(f"{source!r} makes a {type(made).__name__}, which is not a learner; derive it from Learner")
    return made


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Has torch compute with so many threads, as trainer processes do: another number may round differently.

    Where torch is not loaded yet it reads the variables later.
    """
    torch: Any = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    if torch is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        _restore(variables)
        if torch is not None:
            torch.set_num_threads(before)


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, FedeltaError) else described(error)


def _where(error: BaseException) -> str:
    """The traceback, of what the learner raised by accident."""
    deliberate = isinstance(error, FedeltaError) and error.__cause__ is None
    return "" if deliberate else "".join(traceback.format_exception(error))

"""A job without processes: every client's workbench and the coordinator's fold, from files to files."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy

from fedelta.config import JobSpec, parse_job
from fedelta.execution import EvalOutcome, StateFiles, TrainOutcome, Workbench
from fedelta.learner import Learner, Task
from fedelta.local import ClientPlan, client_plan, read_plan
from fedelta.parts import Step
from fedelta_server.aggregate import Carry, WeightedUpdate, admit_update, fold, read_schema
from fedelta_server.plan import Plan, plan_of

JOB = """
[job]
name = "plan"
seed = 7
[model]
init = "first-client"
{model}
[rounds]
max = 1000000
"""


@dataclass
class Federation:
    """Trains and folds as the clients and the coordinator of one job do."""

    folder: Path
    learners: Mapping[str, Learner]
    """By client."""
    job: str = ""
    """What the job file says beside `JOB`."""
    model_table: str = ""
    """What its [model] table says."""
    version: int = 0
    spec: JobSpec = field(init=False)
    plan: Plan = field(init=False)
    client: ClientPlan = field(init=False)

    def __post_init__(self) -> None:
        self.spec = parse_job(JOB.format(model=self.model_table) + self.job, "job.toml")
        self.plan, self.client = plan_of(self.spec), read_plan(client_plan(self.spec))
        self.benches = {name: Workbench(learner) for name, learner in self.learners.items()}
        first = next(iter(self.benches.values()))
        first.initialize(Task(seed=self.spec.job.seed), self._model(0), plan=self.client)

    def train(self, name: str) -> TrainOutcome:
        """One client's part of the next round; its update and state are in files."""
        promoted = self.state(name)
        return self.benches[name].train(
            Task(round=self.version + 1, client=name, seed=self.version, config=self.spec.train),
            self._model(self.version),
            self.update(name),
            state=StateFiles(load=promoted if promoted.exists() else None, save=self.folder / f"{name}.pending"),
            plan=self.client,
            shared=self._shared(),
        )

    def evaluate(self, name: str) -> EvalOutcome:
        """One client's evaluation of the newest version."""
        state = self.state(name)
        return self.benches[name].evaluate(
            Task(client=name), self._model(self.version), plan=self.client, state=state if state.exists() else None
        )

    def round(self, names: Collection[str] = ()) -> None:
        """Trains at these clients, or at all, folds, and promotes what they keep."""
        chosen = sorted(names or self.learners)
        done = {name: self.train(name) for name in chosen}
        self._admit(done)
        updates = [
            WeightedUpdate(name, self.update(name), outcome.examples, outcome.facts) for name, outcome in done.items()
        ]
        carry = Carry(shared=self.plan.local.shared, source=self._shared(), target=self._state(self.version + 1))
        step = Step(
            version=self.version + 1,
            rounds=self.spec.rounds.max,
            clients=len(chosen),
            population=len(self.learners),
        )
        out, parts = self._model(self.version + 1), (self.plan.aggregator, self.plan.optimizer)
        fold(self._model(self.version), updates, out, *parts, step=step, carry=carry)
        self.version += 1
        for name, outcome in done.items():
            if outcome.state_saved:
                (self.folder / f"{name}.pending").replace(self.state(name))

    def _admit(self, done: Mapping[str, TrainOutcome]) -> None:
        schema = read_schema(self._model(self.version))
        for name, outcome in done.items():
            written = outcome.written
            admit_update(self.update(name), schema, written.digest, written.length, self.plan.local.shared)

    def rounds(self, count: int) -> None:
        """So many rounds with all clients."""
        for _ in range(count):
            self.round()

    @property
    def model(self) -> dict[str, np.ndarray]:
        """The newest version."""
        return safetensors.numpy.load_file(self._model(self.version))

    @property
    def shared(self) -> dict[str, np.ndarray]:
        """The newest state file."""
        return safetensors.numpy.load_file(self._state(self.version))

    def update(self, name: str) -> Path:
        """The client's latest update."""
        return self.folder / f"{name}.update"

    def state(self, name: str) -> Path:
        """What the client keeps."""
        return self.folder / f"{name}.state"

    def _shared(self) -> Path | None:
        path = self._state(self.version)
        return path if path.exists() else None

    def _model(self, version: int) -> Path:
        return self.folder / f"{version}.model"

    def _state(self, version: int) -> Path:
        return self.folder / f"{version}.shared"

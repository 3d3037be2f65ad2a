"""The model without any fault: made here, without a coordinator, from the updates that a job's records name."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedelta.execution import StateFiles, Workbench
from fedelta.learner import Task
from fedelta_server.aggregate import WeightedUpdate, file_digest, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean
from fedelta_server.engine import task_seed
from fedelta_server.engine.words import PhaseKind
from tests.faults.journal import Version
from tests.faults.learners import Uneven

SEED = 11
"""Of all jobs: what is done without faults is the same in each."""


@dataclass
class Reference:
    """Trains and folds as the clients and the coordinator of one job do."""

    folder: Path
    _bench: Workbench = field(init=False)
    _states: dict[str, Path] = field(default_factory=dict)
    _version: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        learner = Uneven()
        learner.setup()
        self._bench = Workbench(learner)
        seed = task_seed(SEED, 0, PhaseKind.INITIALIZE, "")
        self._bench.initialize(Task(seed=seed), self._model(0))

    @property
    def digest(self) -> bytes:
        """Of the newest version."""
        return file_digest(self._model(self._version))

    def train(self, names: Collection[str]) -> list[WeightedUpdate]:
        """The updates of the next round."""
        return [self._train(name, self._version + 1) for name in sorted(names)]

    def give(self, name: str, round_: int, attempt: int) -> WeightedUpdate:
        """The update of a client that started from the version before a round, for the next version to be made."""
        out = self.folder / f"{name}.{round_}.{attempt}.update"
        seed = task_seed(SEED, round_, PhaseKind.TRAIN, name, attempt)
        task = Task(round=round_, client=name, seed=seed, config={"memory": 0.0})
        done = self._bench.train(task, self._model(round_ - 1), out)
        stale = self._version + 1 - round_
        return WeightedUpdate(name, out, done.examples, discount=1 / math.sqrt(1 + stale))

    def fold(self, updates: Sequence[WeightedUpdate]) -> bytes:
        """Makes the next version of these updates; returns its digest."""
        self._version += 1
        fold(self._model(self._version - 1), updates, self._model(self._version), Mean(), Sgd())
        for update in updates:
            self._settle(update.client)
        return self.digest

    def _train(self, name: str, round_: int) -> WeightedUpdate:
        seed = task_seed(SEED, round_, PhaseKind.TRAIN, name)
        out = self.folder / f"{name}.{round_}.update"
        state = StateFiles(load=self._states.get(name), save=self._pending(name))
        task = Task(round=round_, client=name, seed=seed)
        done = self._bench.train(task, self._model(self._version), out, state=state)
        return WeightedUpdate(name, out, done.examples)

    def _settle(self, name: str) -> None:
        """The state that was made with an update counts once that is folded."""
        if self._pending(name).exists():
            self._states[name] = self._pending(name).rename(self.folder / f"{name}.{self._version}.state")

    def _pending(self, name: str) -> Path:
        return self.folder / f"{name}.pending"

    def _model(self, version: int) -> Path:
        return self.folder / f"{version}.model"


class References:
    """The digests of all versions of a job, by who gave its updates, round by round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[frozenset[str], ...], list[bytes]] = {}

    def digests(self, accepted: Sequence[Collection[str]]) -> list[bytes]:
        """Of all versions, the initial one included."""
        key = tuple(frozenset(names) for names in accepted)
        if key not in self._known:
            made = Reference(self._folder / str(len(self._known)))
            self._known[key] = [made.digest, *(made.fold(made.train(names)) for names in key)]
        return self._known[key]

    def buffered(self, folder: str, made: Sequence[Version]) -> list[bytes]:
        """The digests of the versions of an asynchronous job, by what its records say is in them."""
        reference = Reference(self._folder / folder)
        return [
            reference.digest,
            *(
                reference.fold(
                    [reference.give(name, *source) for name, source in zip(each.clients, each.sources, strict=True)]
                )
                for each in made
            ),
        ]

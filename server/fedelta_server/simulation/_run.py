"""`simulate`: from a job file to its history."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedelta._files import replaced
from fedelta.errors import ConfigError
from fedelta.execution import offered_name
from fedelta.local import client_plan
from fedelta_server.plan import plan_of, wanted_facts
from fedelta_server.simulation._benches import make_learner
from fedelta_server.simulation._delays import NO_DELAYS, Delays, Scaled
from fedelta_server.simulation._desk import Desk, Watch
from fedelta_server.simulation._disk import files_in
from fedelta_server.simulation._history import History
from fedelta_server.simulation._job import SimulatedJob, read_job
from fedelta_server.simulation._pool import pool_of
from fedelta_server.simulation._simulation import Simulation
from fedelta_server.simulation._sites import Data, Sites, sites_of
from fedelta_server.simulation._states import States
from fedelta_server.simulation._work import LearnerSource, Setting


class SimulationInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a simulation."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history
        """What it had reached."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a simulation is run; `simulate` has the same as its keywords."""

    clients: int | None = None
    """How many there are. None: as many as the data is for."""
    data: Data = None
    """Where clients find their data; see `sites_of`."""
    workers: int = 1
    """Processes that do the clients' work; with 1 it is this one. The history does not depend on it."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What clients say of themselves, by name: key and value."""
    evaluator_data: Any = None
    """Held-out data: a client called "central", which evaluates only, has it as its `data`. None: there is none."""
    delays: Delays = NO_DELAYS
    """How long each assignment takes on the simulation's clock."""
    changes: Sequence[str] = ()
    """Values of the job file that are different, such as "rounds.max=5"."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that change values of the job file (FEDELTA_JOB_…)."""
    out: Path | None = None
    """Where the newest version is written at the end."""
    force: bool = False
    """Overwrite `out`."""
    device: str = "cpu"
    """What learners find as `device`."""
    threads: int = 1
    """Threads with which torch computes in each process, as clients' `--threads`."""
    resident: int = 128
    """Learners that stay in memory in each process, with their data and their model object."""
    watch: Watch | None = None
    """Hears of every record of the engine as it is made, with the time on the simulation's clock."""


def simulate(
    job: str | Path | Mapping[str, Any],
    learner: LearnerSource,
    *,
    options: Options | None = None,
    **keywords: Any,
) -> History:
    """Runs a job with clients in this process (or a few), and returns what came of it.

    `job` is a job file, or its tables as a mapping; `learner` a learner's class, or its "module:Class"; keywords are
    the fields of `Options`. It is the coordinator's own engine, plan, admission and fold, and the clients' own
    training: the real federation gives the same model, bit by bit, for the same job, names and data, where the learner
    is deterministic and both compute on processors of one type.

    Raises `FedeltaError` where something given is wrong, and `SimulationInterrupted` at Ctrl-C.
    """
    given = dataclasses.replace(options or Options(), **keywords)
    read = read_job(job, given.changes, given.environment)
    plan_of(read.spec)  # refused before anything is begun, as when it is submitted
    sites = sites_of(given.data, given.clients, read.spec.job.seed)
    if given.evaluator_data is not None:
        sites = sites.with_central(given.evaluator_data)
    _check(given, sites)
    with tempfile.TemporaryDirectory(prefix="fedelta-simulation-") as folder:
        return _Run(given, read, sites, Path(folder)).run(learner)


def _check(options: Options, sites: Sites) -> None:
    """Raises `ConfigError` before anything is begun."""
    if options.workers < 1 or options.resident < 1:
        raise ConfigError("workers and resident must be at least 1")
    if options.device == "auto":
        raise ConfigError("device: a simulation does not choose one; say cpu, cuda or another that torch knows")
    slow = options.delays.factors if isinstance(options.delays, Scaled) else {}
    stranger = next((name for name in (*slow, *options.labels) if name not in sites.indices), None)
    if stranger is not None:
        raise ConfigError(f"there is no client {stranger!r}; they are {sites.names[0]} to {sites.names[-1]}")
    if options.out is not None and options.out.exists() and not options.force:
        raise ConfigError(f"{options.out} exists already; it is overwritten only with --force (force=True)")


class _Run:
    """One run, with its folder."""

    def __init__(self, options: Options, job: SimulatedJob, sites: Sites, folder: Path) -> None:
        self._options = options
        self._job = job
        self._sites = sites
        self._desk = Desk(files_in(folder / "coordinator"), options.watch)
        states = folder / "states"
        states.mkdir()
        self._simulation = Simulation(sites, self._desk, States(states), options.delays)

    def run(self, learner: LearnerSource) -> History:
        """See `simulate`."""
        name = offered_name(type(make_learner(learner)), learner if isinstance(learner, str) else _spec(learner))
        self._simulation.submit(self._job, name, self._options.labels)
        try:
            with pool_of(self._setting(learner), self._options.workers) as pool:
                self._simulation.run(pool)
        except KeyboardInterrupt:
            raise SimulationInterrupted(self._history("interrupted")) from None
        return self._history(self._standstill() if self._desk.job.runnable else "")

    def _standstill(self) -> str:
        """Why nothing can happen any more. Raises `ConfigError` where the job cannot begin to train."""
        waits = self._simulation.waiting_for()
        if not self._desk.chronicle.trained:
            raise ConfigError(f"the job would wait for ever: {waits}")
        return waits

    def _setting(self, learner: LearnerSource) -> Setting:
        spec, plan = self._job.spec, self._desk.job.plan
        return Setting(
            learner=learner,
            source=self._sites.source,
            job=self._desk.job.id,
            config=json.dumps(spec.train, default=str),
            arguments=json.dumps(spec.model.arguments, default=str),
            plan=client_plan(spec),
            shared=plan.local.shared,
            facts=wanted_facts(plan, spec),
            device=self._options.device,
            threads=self._options.threads,
            resident=self._options.resident,
        )

    def _history(self, reason: str) -> History:
        """What there is. `reason`: why there is no more, where the job does not say it."""
        found = self._desk.chronicle
        found.reason = reason or found.reason
        return found.history(self._sites.names, self._simulation.now, self._written())

    def _written(self) -> Path | None:
        out, version = self._options.out, self._desk.job.model
        if out is None or version is None:
            return None
        with replaced(out, overwrite=self._options.force) as part:
            part.write_bytes(self._desk.files.model_path(version.digest).read_bytes())
        return out


def _spec(learner: Any) -> str:
    """What a learner's class is called where it has no name of its own."""
    return f"{learner.__module__}:{learner.__qualname__}" if isinstance(learner, type) else repr(learner)

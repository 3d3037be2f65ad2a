"""The job file: what a job is, checked when it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from fedelta._names import LABEL_PATTERN, LABEL_RULE, NAME_PATTERN, NAME_RULE
from fedelta.config._duration import Duration
from fedelta.config._kinds import Notes
from fedelta.config._origin import ORIGIN_SCHEMA, parse_origin
from fedelta.config._sources import bind, parse_toml, read_toml
from fedelta.errors import ConfigError

FIRST_CLIENT = "first-client"

MAX_COUNT = 1_000_000
"""The most rounds of a job, and the most clients of a round."""

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Share = Annotated[float, Meta(gt=0, le=1)]
Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z"), Notes(noun="name", rule=NAME_RULE)]
Label = Annotated[str, Meta(pattern=rf"^{LABEL_PATTERN}\Z"), Notes(noun="label", rule=LABEL_RULE)]

AGGREGATORS = ("mean", "sum")
SERVER_OPTIMIZERS = ("sgd",)


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """[job]: who it is."""

    name: Name
    """Letters, digits, dots, underscores and hyphens. The job's id is made from it."""
    seed: Annotated[int, Meta(ge=0, le=(1 << 62))] = 0
    """Every random choice of the job derives from it."""
    learner: str = ""
    """Only clients that offer the learner of this name take part. Empty: any learner does."""
    labels: tuple[Label, ...] = ()
    """Only clients with all of these labels take part: "gpu" for any value, "site=north" for that one."""
    share: Annotated[float, Meta(ge=0.001, le=1000)] = 1.0
    """Where jobs compete for clients, one with share 2 gets twice as many turns as one with share 1."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """[model]: where version 0 comes from."""

    init: Annotated[str, Meta(min_length=1, extra_json_schema=ORIGIN_SCHEMA)]
    """A safetensors file, relative to the job file; "first-client": a client builds it with the job's seed; or
    "job:ID@VERSION": a version of another job on the same coordinator, where VERSION is a number, latest or best."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """[model.arguments]: keyword arguments for the learner's `model()`."""

    @property
    def file(self) -> str | None:
        """The model file that `init` names. None: version 0 comes from a client or from another job."""
        elsewhere = self.init == FIRST_CLIENT or parse_origin(self.init) is not None
        return None if elsewhere else self.init


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """[rounds]: how rounds go."""

    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = {"not": {"required": ["clients", "fraction"]}}
    """What editors check beyond single values."""

    max: Count
    """The job is finished after this many rounds."""
    clients: Count | None = None
    """How many clients train in a round, at most."""
    fraction: Share | None = None
    """Instead of `clients`: which share of the ready clients trains in a round, rounded up, and at least `min_updates`.
    Neither: all."""
    over_select: Annotated[float, Meta(ge=1, le=10)] = 1.0
    """So many times as many clients train, where they are ready; the first `clients` (or `fraction`) updates count."""
    min_clients: Count | None = None
    """Ready clients needed to open a round. Absent: `clients`, or 1."""
    min_updates: Count = 1
    """Updates needed to complete a round."""
    deadline: Duration = Duration(3600)
    """How long a phase of a round waits for its clients."""
    lease: Duration = Duration(60)
    """A client that is silent for this long loses its assignment."""
    attempts: Count = 3
    """How often a round that got too few updates is tried before the job pauses."""

    @property
    def ready_needed(self) -> int:
        """Ready clients needed to open a round."""
        return self.min_clients or self.clients or 1

    def check(self) -> None:
        """Checks the values against each other. Raises `ValueError`."""
        if self.clients is not None and self.fraction is not None:
            raise ValueError("rounds.clients and rounds.fraction exclude each other; keep one")
        if self.over_select > 1 and self.clients is None and self.fraction is None:
            raise ValueError(
                f"rounds.over_select = {self.over_select:g} needs rounds.clients or rounds.fraction: "
                "without them every ready client trains, and all updates count"
            )
        if self.clients is not None and self.min_updates > self.clients:
            raise ValueError(
                f"rounds.min_updates = {self.min_updates} can never be reached with rounds.clients = {self.clients}"
            )
        if self.min_clients is not None and self.min_clients < self.min_updates:
            raise ValueError(
                f"rounds.min_clients = {self.min_clients} would open rounds that cannot reach "
                f"rounds.min_updates = {self.min_updates}"
            )


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """[aggregator]: how updates become one."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(AGGREGATORS)})] = "mean"
    """"mean": the average of the deltas, weighted by examples. "sum": their plain sum, as statistics need it."""


@dataclass(frozen=True, kw_only=True)
class ServerOptimizerConfig:
    """[server_optimizer]: how the aggregated delta changes the model."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(SERVER_OPTIMIZERS)})] = "sgd"
    """"sgd": model + lr * delta; with lr = 1 this is FedAvg (McMahan et al. 2017, algorithm 1)."""
    lr: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    """The server learning rate."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """[evaluate]: evaluation on clients."""

    every: Annotated[int, Meta(ge=0)] = 1
    """Evaluate after every so many rounds, and after the last one. 0: never."""
    fraction: Share = 1.0
    """Which share of the connected clients evaluates (rounded up)."""
    metric: str = ""
    """The metric by which versions are compared. Empty: "accuracy" where clients report it, else the least "loss"."""
    goal: Literal["max", "min"] = "max"
    """Whether the best version has the greatest or the least `metric`."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A whole job file."""

    ENVIRONMENT: ClassVar[str] = "FEDELTA_JOB_"
    """What the variables begin with that override a job file when it is submitted."""

    job: JobConfig
    model: ModelConfig
    rounds: RoundsConfig
    train: Mapping[str, Any] = field(default_factory=dict)
    """[train]: goes to the learner as `task.config`."""
    aggregator: AggregatorConfig = AggregatorConfig()
    server_optimizer: ServerOptimizerConfig = ServerOptimizerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    def __post_init__(self) -> None:
        """Checks what concerns several values. Raises `ValueError`."""
        self.rounds.check()
        parse_origin(self.model.init)
        _known(self.aggregator.name, AGGREGATORS, "aggregator.name")
        _known(self.server_optimizer.name, SERVER_OPTIMIZERS, "server_optimizer.name")


def load_job(path: Path) -> tuple[JobSpec, str]:
    """Reads a job file; returns the job and the file's text. Raises `ConfigError`."""
    table, text = read_toml(path)
    return job_of(table, str(path)), text


def parse_job(text: str, source: str) -> JobSpec:
    """Reads the text of a job file; `source` is what errors call it. Raises `ConfigError`."""
    return job_of(parse_toml(text, source), source)


def job_of(table: Mapping[str, Any], source: str) -> JobSpec:
    """The job that a job file's table describes; `source` is what errors call the file. Raises `ConfigError`."""
    require_model(table, source)
    return bind(JobSpec, table, source)


def require_model(table: Mapping[str, Any], source: str) -> None:
    """Says what to do where a job file says nothing of its model. Raises `ConfigError`."""
    if table.get("model", {}) == {}:
        raise ConfigError(
            f'{source}: model.init is missing. Say init = "first-client" to let a client build the initial model, or '
            "make one with `fedelta model init --learner MODULE:CLASS --seed 7` and name the file"
        )


def _known(name: str, known: tuple[str, ...], key: str) -> None:
    if name not in known:
        raise ValueError(f"{key} = {name!r} is not known; known are {', '.join(known)}")

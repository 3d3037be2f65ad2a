"""The job file: what a job is, checked when it is loaded."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from fedelta._names import LABEL_PATTERN, NAME_PATTERN
from fedelta.config._bind import bind
from fedelta.config._duration import Duration
from fedelta.errors import ConfigError

FIRST_CLIENT = "first-client"

MAX_COUNT = 1_000_000
"""The most rounds of a job, and the most clients of a round."""

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Share = Annotated[float, Meta(gt=0, le=1)]
Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z")]

Label = Annotated[str, Meta(pattern=rf"^{LABEL_PATTERN}\Z")]

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

    init: Annotated[str, Meta(min_length=1)]
    """A safetensors file, relative to the job file; "first-client": a client builds it with the job's seed; or
    "job:ID@VERSION": a version of another job on the same coordinator, where VERSION is a number, "latest" or "best"."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """[model.arguments]: keyword arguments for the learner's `model()`."""


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """[rounds]: how rounds go."""

    max: Count
    """The job is finished after this many rounds."""
    clients: Count | None = None
    """How many clients train in a round, at most."""
    fraction: Share | None = None
    """Which share of the ready clients trains in a round (rounded up), instead of `clients`. Neither: all."""
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


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """[aggregator]: how updates become one."""

    name: str = "mean"
    """"mean": the average of the deltas, weighted by examples. "sum": their plain sum, as statistics need it."""


@dataclass(frozen=True, kw_only=True)
class ServerOptimizerConfig:
    """[server_optimizer]: how the aggregated delta changes the model."""

    name: str = "sgd"
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
    """The metric by which versions are compared. Empty: "accuracy" where clients report it, else "loss", at its least."""
    goal: Literal["max", "min"] = "max"
    """Whether the best version has the greatest or the least `metric`."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A whole job file."""

    job: JobConfig
    model: ModelConfig
    rounds: RoundsConfig
    train: Mapping[str, Any] = field(default_factory=dict)
    """[train]: goes to the learner as `task.config`."""
    aggregator: AggregatorConfig = AggregatorConfig()
    server_optimizer: ServerOptimizerConfig = ServerOptimizerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def load_job(path: Path) -> tuple[JobSpec, str]:
    """Reads a job file; returns the job and the file's text. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_job(text, str(path)), text


def parse_job(text: str, source: str) -> JobSpec:
    """Reads the text of a job file; `source` is what errors call it. Raises `ConfigError`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from None
    if table.get("model", {}) == {}:
        raise ConfigError(
            f'{source}: model.init is missing. Say init = "first-client" to let a client build the initial model, or '
            "make one with `fedelta model init --learner MODULE:CLASS --seed 7` and name the file"
        )
    spec = bind(JobSpec, table, source)
    _check(spec, source)
    return spec


def _check(spec: JobSpec, source: str) -> None:
    rounds = spec.rounds
    if rounds.clients is not None and rounds.fraction is not None:
        raise ConfigError(f"{source}: rounds.clients and rounds.fraction exclude each other; keep one")
    if rounds.clients is not None and rounds.min_updates > rounds.clients:
        raise ConfigError(
            f"{source}: rounds.min_updates = {rounds.min_updates} can never be reached with "
            f"rounds.clients = {rounds.clients}"
        )
    if rounds.min_clients is not None and rounds.min_clients < rounds.min_updates:
        raise ConfigError(
            f"{source}: rounds.min_clients = {rounds.min_clients} would open rounds that cannot reach "
            f"rounds.min_updates = {rounds.min_updates}"
        )
    _known(spec.aggregator.name, AGGREGATORS, "aggregator.name", source)
    _known(spec.server_optimizer.name, SERVER_OPTIMIZERS, "server_optimizer.name", source)


def _known(name: str, known: tuple[str, ...], key: str, source: str) -> None:
    if name not in known:
        raise ConfigError(f"{source}: {key} = {name!r} is not known; known are {', '.join(known)}")

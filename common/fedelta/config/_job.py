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
from fedelta.config._part import AggregatorPart, LocalPart, SelectorPart, ServerOptimizerPart, StopPart
from fedelta.config._sources import bind, parse_toml, read_toml
from fedelta.errors import ConfigError

FIRST_CLIENT = "first-client"

MAX_COUNT = 1_000_000
"""The most rounds of a job, and the most clients of a round."""

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Share = Annotated[float, Meta(gt=0, le=1)]
Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z"), Notes(noun="name", rule=NAME_RULE)]
Label = Annotated[str, Meta(pattern=rf"^{LABEL_PATTERN}\Z"), Notes(noun="label", rule=LABEL_RULE)]


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
    tensors: Literal["all", "trainable"] = "all"
    """"all": the job's model is all of the learner's. "trainable": only parameters that training changes are part of it
    and travel, as for fine-tuning with adapters (LoRA); each client makes the others itself, with the job's seed."""
    personal: tuple[str, ...] = ()
    """Tensors with names that match one of these patterns, such as "*bn*" (FedBN) or "head.*" (FedPer), are not part of
    the job's model: each client has its own, begun with the job's seed, and keeps it from round to round."""

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
    buffer: Count | None = None
    """Asynchronous rounds (FedBuff): a version is made of every so many updates, whichever versions they started from,
    and `clients` (or `fraction`) of the clients train at any time. Absent: synchronous rounds."""
    max_staleness: Annotated[int, Meta(ge=0, le=MAX_COUNT)] = 20
    """With `buffer`: an update that started from a version more than so many ago does not count."""
    staleness_exponent: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """With `buffer`: an update that is s versions old is scaled by 1 / (1 + s) ** staleness_exponent."""

    @property
    def ready_needed(self) -> int:
        """Ready clients needed to open a round."""
        return self.min_clients or self.clients or 1

    def _check_buffer(self) -> None:
        if self.buffer is None:
            return
        if self.over_select > 1:
            raise ValueError("rounds.over_select has no meaning with rounds.buffer: who is done first counts; drop one")
        if self.min_updates > 1:
            raise ValueError("rounds.min_updates has no meaning with rounds.buffer, which says how many make a version")

    def check(self) -> None:
        """Checks the values against each other. Raises `ValueError`."""
        self._check_buffer()
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
class EvaluateConfig:
    """[evaluate]: evaluation on clients."""

    every: Annotated[int, Meta(ge=0)] = 1
    """Evaluate after every so many rounds, and after the last one. 0: never."""
    fraction: Share = 1.0
    """Which share of the connected clients evaluates (rounded up)."""
    lag: Annotated[int, Meta(ge=0, le=MAX_COUNT)] = 1
    """What is decided on metrics before round r + 1 (stop rules, some selectors) rests on those of versions up to
    r - lag, and waits for them; with 0 training waits for every evaluation."""
    metric: str = ""
    """The metric by which versions are compared; "central/accuracy" is the accuracy of the central evaluation. Empty:
    "accuracy" where clients report it, else the least "loss"."""
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
    selector: SelectorPart = field(default_factory=SelectorPart)
    """[selector]: which of the ready clients train in a round. `fedelta parts list selector` shows what there is."""
    local: LocalPart = field(default_factory=LocalPart)
    """[local]: what is added to the training at the clients. See `fedelta parts list local`."""
    aggregator: AggregatorPart = field(default_factory=AggregatorPart)
    """[aggregator]: how updates become one. See `fedelta parts list aggregator`."""
    server_optimizer: ServerOptimizerPart = field(default_factory=ServerOptimizerPart)
    """[server_optimizer]: how the aggregated delta changes the model. See `fedelta parts list server_optimizer`."""
    stop: tuple[StopPart, ...] = ()
    """[[stop]]: rules that end the job before `rounds.max`; the first that holds. See `fedelta parts list stop`."""
    evaluate: EvaluateConfig = EvaluateConfig()

    def __post_init__(self) -> None:
        """Checks what concerns several values. Raises `ValueError`."""
        self.rounds.check()
        parse_origin(self.model.init)


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

"""The configuration of `fedelta client`."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from fedelta._names import DEFAULT_PORT, NAME_PATTERN, NAME_RULE, is_name
from fedelta.config import Address, Label, Notes
from fedelta.wire.proxy import ProxySetting
from fedelta.wire.route import KEEPALIVE_SECONDS, LEAST_KEEPALIVE_SECONDS

ClientName: TypeAlias = Annotated[
    str,
    Meta(pattern=rf"^{NAME_PATTERN}\Z"),
    Notes(noun="client name", rule=NAME_RULE, default="the host's name"),
]
LearnerName: TypeAlias = Annotated[str, Meta(min_length=1), Notes(metavar="MODULE:CLASS")]
Data: TypeAlias = Annotated[Path, Notes(exists=True)]
Device: TypeAlias = Annotated[str, Meta(min_length=1), Notes(metavar="auto|cpu|cuda|cuda:N|mps")]
Threads: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]

DEFAULT_SERVER = Address(f"localhost:{DEFAULT_PORT}")
DEFAULT_PROXY = ProxySetting()


def _host_name() -> str:
    return socket.gethostname()


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """[[learners]]: one learner that the client offers."""

    learner: LearnerName
    """The learner's "module:Class"; found in the working directory, too."""
    data: Data | None = None
    """Goes to the learner as its `data`. Absent: the client's `data`."""
    device: Device | None = None
    """Where it computes. Absent: the client's `device`."""
    threads: Threads | None = None
    """CPU threads it trains with. Absent: the client's `threads`."""


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """What a client is started with."""

    ENVIRONMENT: ClassVar[str] = "FEDELTA_CLIENT_"
    """What the variables begin with."""

    server: Annotated[Address, Notes(metavar="HOST:PORT", environment="FEDELTA_SERVER")] = DEFAULT_SERVER
    """The coordinator."""
    learners: Annotated[
        tuple[LearnerConfig, ...], Meta(min_length=1), Notes(flags=("--learner",), metavar="MODULE:CLASS")
    ]
    """A learner to offer, by module and class; found in the working directory, too. May be given several times."""
    data: Annotated[Data, Notes(default="this directory")] = Path()
    """Goes to the learners as their `data`."""
    name: ClientName = field(default_factory=_host_name)
    """The client's name, unique in the federation."""
    labels: Annotated[tuple[Label, ...], Notes(flags=("--label",), metavar="KEY[=VALUE]")] = ()
    """What the client says of itself, for jobs that ask for it: "gpu", "site=north". May be given several times."""
    device: Device = "auto"
    """Where torch computes."""
    threads: Annotated[Threads | None, Notes(default="1")] = None
    """CPU threads to train with."""
    spool: Annotated[Path | None, Notes(metavar="DIR", default="in the user's state directory, by name")] = None
    """Directory for models, updates and what learners keep between rounds."""
    policy: Annotated[Path | None, Notes(metavar="FILE", exists=True)] = None
    """The site's policy: a TOML file that says which jobs are accepted, when, and how much of what they may use."""
    evaluates_only: Annotated[bool, Notes(flags=("--evaluate-only",))] = False
    """Never train, only evaluate: for held-out data. What it measures is kept apart, as the central evaluation."""
    approve: bool = False
    """Ask the operator at this site before the first assignment of each job."""
    proxy: Annotated[ProxySetting, Notes(metavar="environment|none|URL")] = DEFAULT_PROXY
    """The HTTP proxy to the coordinator, by URL. "environment": as HTTPS_PROXY and NO_PROXY say; "none": no proxy."""
    keepalive_seconds: Annotated[float, Meta(ge=LEAST_KEEPALIVE_SECONDS, le=3600)] = KEEPALIVE_SECONDS
    """How often an idle connection is kept alive, in seconds; less than what cuts idle connections on the way."""
    log_format: Literal["text", "json"] = "text"
    """Log lines for people, or one JSON object a line."""
    verbose: Annotated[bool, Notes(flags=("-v", "--verbose"))] = False
    """Log more of what goes on."""

    def __post_init__(self) -> None:
        """Checks what concerns several values. Raises `ValueError`."""
        if not is_name(self.name):
            # A default is not bound, so nobody checked it.
            raise ValueError(f"the host's name, {self.name!r}, is no client name; say another --name: {NAME_RULE}")
        keys = [label.partition("=")[0] for label in self.labels]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise ValueError(f"labels: {twice!r} is there twice; a client has one value of a label")

    @property
    def label_values(self) -> Mapping[str, str]:
        """The labels by key; one without a value has an empty one."""
        pairs = (label.partition("=") for label in self.labels)
        return {key: value for key, _, value in pairs}

    @property
    def trainers(self) -> tuple["TrainerSettings", ...]:
        """The learners, with what they leave to the client filled in."""
        return tuple(
            TrainerSettings(
                learner=each.learner,
                data=self.data if each.data is None else each.data,
                device=self.device if each.device is None else each.device,
                threads=self.threads if each.threads is None else each.threads,
            )
            for each in self.learners
        )


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What a trainer process is started with."""

    learner: str
    """The "module:Class" to load."""
    data: Path = Path()
    """Goes to the learner."""
    device: str = "auto"
    """Where to compute."""
    threads: int | None = None
    """CPU threads of torch and numpy. None: one, unless the environment says otherwise."""
    threads_max: int | None = None
    """CPU threads at most, whatever `threads` or the environment say."""
    nice: int = 0
    """Its niceness; that of this process where it is greater."""

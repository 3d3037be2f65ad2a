"""The configuration of `fedelta server`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from fedelta._names import DEFAULT_PORT
from fedelta.config import Notes, Size

KEEP_FREE = Size(256_000_000)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What a coordinator is started with."""

    ENVIRONMENT: ClassVar[str] = "FEDELTA_SERVER_"
    """What the variables begin with."""

    state: Annotated[Path, Notes(metavar="DIR")]
    """Directory for the journal and the models; made if need be."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = DEFAULT_PORT
    """Port to listen on. 0: a free one."""
    insecure_bind_anywhere: bool = False
    """Allow a host that other machines reach, although nothing is encrypted yet."""
    keep_updates: Annotated[int, Meta(ge=0)] = 0
    """Keep the update files of so many last rounds of each job; `fedelta verify` recomputes these. 0: none."""
    keep_versions: Annotated[int, Meta(ge=0)] = 0
    """Keep so many last model versions of each job, the best, and those that a job starts from. 0: all."""
    keep_every: Annotated[int, Meta(ge=0)] = 0
    """With keep_versions: also every so many-th version. 0: none."""
    keep_free: Size = KEEP_FREE
    """Take no update in that would leave less free on the disk: the journal and the next version need room as well."""
    evaluator: Annotated[Annotated[str, Meta(min_length=1)] | None, Notes(metavar="MODULE:CLASS")] = None
    """Evaluate versions here as well: with this learner, in a process of its own that is a client called "central"."""
    evaluator_data: Annotated[Path | None, Notes(exists=True)] = None
    """Held-out data for the evaluator; goes to the learner as its `data`. Absent: the working directory."""
    log_format: Literal["text", "json"] = "text"
    """Log lines for people, or one JSON object a line."""
    verbose: Annotated[bool, Notes(flags=("-v", "--verbose"))] = False
    """Log more of what goes on."""

    def __post_init__(self) -> None:
        """Checks what concerns several values. Raises `ValueError`."""
        if self.evaluator_data is not None and self.evaluator is None:
            raise ValueError("evaluator_data says what to evaluate on and needs an evaluator, MODULE:CLASS")

"""Effects: what the caller is to do after a step's records are committed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedelta_server.engine._refs import ModelRef, StateRef


@dataclass(frozen=True)
class Wake:
    """There is work for these clients: answer their polls."""

    clients: tuple[str, ...]


@dataclass(frozen=True)
class FoldUpdate:
    """One update to be folded: the client's name, its weight, and the digest and length of its file."""

    client: str
    examples: int
    digest: bytes
    length: int
    facts: Mapping[str, float] = field(default_factory=dict)
    staleness: int = 0
    round: int = 0
    """The round of its assignment, and `attempt` that one's attempt: they name its file."""
    attempt: int = 0


@dataclass(frozen=True)
class Fold:
    """Fold the updates of a round into a new version, then send `Folded` or `FoldFailed`."""

    job: str
    round: int
    attempt: int
    base: ModelRef
    base_manifest: bytes
    """The digest of the base's manifest; empty where it has none."""
    updates: tuple[FoldUpdate, ...]
    """In the order in which they are folded: by client name, or, in asynchronous rounds, as they were accepted."""
    state: StateRef | None = None
    """The state of the plan's parts that belongs to the base. None: none was made yet."""
    population: int = 0
    """How many clients could have been drawn."""


@dataclass(frozen=True)
class DropUpdates:
    """The update files of this attempt at a round are no longer needed for any model."""

    job: str
    round: int
    attempt: int
    folded: bool = False
    """They are in a version, which can be recomputed as long as they are kept."""


@dataclass(frozen=True)
class DropParts:
    """Of an asynchronous job: what these assignments to train left is no longer needed, updates and broken uploads."""

    job: str
    parts: tuple[tuple[int, int, str], ...]
    """Each one's round, attempt and client."""
    oldest: int
    """Nothing of a round before this one is needed any more."""
    folded: bool = False
    """Their updates are in a version, which can be recomputed as long as they are kept."""


@dataclass(frozen=True)
class DropModels:
    """No version that is kept has these digests on this job's account; another job's may."""

    job: str
    digests: tuple[bytes, ...]


Effect = Wake | Fold | DropUpdates | DropParts | DropModels

"""Effects: what the caller is to do after a step's records are committed."""

from dataclasses import dataclass

from fedelta_server.engine._state import ModelRef


@dataclass(frozen=True)
class Wake:
    """There is work for these clients: answer their polls."""

    clients: tuple[str, ...]


@dataclass(frozen=True)
class FoldUpdate:
    """One update to be folded: the client's name and its weight."""

    client: str
    examples: int


@dataclass(frozen=True)
class Fold:
    """Fold the updates of a round into a new version, then send `Folded` or `FoldFailed`."""

    job: str
    round: int
    attempt: int
    base: ModelRef
    updates: tuple[FoldUpdate, ...]


@dataclass(frozen=True)
class DropUpdates:
    """The update files of this attempt at a round are no longer needed."""

    job: str
    round: int
    attempt: int


Effect = Wake | Fold | DropUpdates

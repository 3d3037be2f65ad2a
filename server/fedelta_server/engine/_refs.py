"""Model versions and updates as the engine names them: by digest. Their files are the store's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelRef:
    """A model version: its number in the job, the digest and the length of its file."""

    version: int
    digest: bytes
    length: int


@dataclass(frozen=True)
class StateRef:
    """The state of a plan's parts after a version was made: the digest and the length of its file."""

    digest: bytes
    length: int


@dataclass(frozen=True)
class Made:
    """A version that was made: its model, the attempt that made it, and the digest of its manifest, if it has one."""

    model: ModelRef
    attempt: int = 0
    manifest: bytes = b""
    state: StateRef | None = None
    """What the plan's parts keep for the next version, if they keep anything."""
    sources: frozenset[tuple[int, int]] = frozenset()
    """Asynchronous rounds: the rounds and attempts of the assignments whose updates are in it."""


@dataclass(frozen=True)
class UpdateRef:
    """An accepted update: the digest and the length of its file."""

    digest: bytes
    length: int

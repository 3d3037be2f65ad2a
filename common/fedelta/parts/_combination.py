"""What a part of any kind may say of the plan that it is in, beside what its protocol asks for. All of it is optional.

requires: ClassVar[Mapping[str, tuple[str, ...]]]
    By slot, the names of the parts that it works with: {"aggregator": ("fednova",)}. Slots that are not named are
    free.
synchronous: ClassVar[bool]
    It works in synchronous rounds only, not with `rounds.buffer`.
def check(self, job: JobSpec) -> None
    Raises `ConfigError`, naming the key and the remedy, where it does not fit the rest of the job file.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fedelta.config import JobSpec


def requires(part: Any) -> Mapping[str, tuple[str, ...]]:
    """The names of the parts that a part works with, by slot; slots that are free are left out."""
    found: Mapping[str, tuple[str, ...]] = getattr(part, "requires", {})
    return found


def synchronous(part: Any) -> bool:
    """Whether a part works in synchronous rounds only."""
    return bool(getattr(part, "synchronous", False))


def check(part: Any, job: JobSpec) -> None:
    """Lets a part check the job file that it is in. Raises `ConfigError`."""
    found: Callable[[JobSpec], None] | None = getattr(part, "check", None)
    if found is not None:
        found(job)

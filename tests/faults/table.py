"""The closing table: what was injected, and what came of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.plans import Result


@dataclass
class Table:
    """Adds up results."""

    injected: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    missed: int = 0
    lost: int = 0
    repeated: int = 0
    different: int = 0

    @property
    def good(self) -> bool:
        """Whether all faults came about, and none did harm."""
        return not (self.missed or self.lost or self.repeated or self.different)

    def add(self, result: Result) -> None:
        """Counts one more."""
        self.injected += result.injected
        self.jobs += 1
        self.missed += len(result.missed)
        self.lost += len(result.lost)
        self.repeated += len(result.repeated)
        self.different += len(result.different)

    def as_plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "faults": dict(sorted(self.injected.items())),
            "injected": self.injected.total(),
            "not_injected": self.missed,
            "jobs": self.jobs,
            "lost": self.lost,
            "repeated": self.repeated,
            "different_models": self.different,
        }

    def lines(self) -> Iterable[str]:
        """For people."""
        rows = [*sorted(self.injected.items()), ("faults in all", self.injected.total())]
        rows += [("jobs", self.jobs), ("faults that did not come about", self.missed)]
        rows += [("updates lost", self.lost), ("updates or trainings repeated", self.repeated)]
        rows += [("different models", self.different)]
        return (f"{name:<32}{count:>6}" for name, count in rows)

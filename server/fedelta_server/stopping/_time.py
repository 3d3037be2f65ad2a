"""Enough time."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta._words import span
from fedelta.config import Duration
from fedelta.parts import History


@dataclass(frozen=True, kw_only=True)
class Time:
    """The rounds took so long in all. A round that is open is finished."""

    limit: Duration
    """Counted is the time from the opening of each round to its closing; not pauses, nor waiting for clients."""
    reads_metrics: ClassVar[bool] = False

    def reason(self, history: History) -> str | None:
        """See `StopRule`."""
        taken = sum(each.seconds for each in history.rounds)
        if taken < self.limit:
            return None
        return f"its rounds took {span(taken)} in all, and the limit is {self.limit.in_words()}"

"""A metric that gets no better."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta._words import plural
from fedelta.config import MAX_COUNT
from fedelta.parts import History
from fedelta_server.stopping._metric import Goal, goal_of, values


@dataclass(frozen=True, kw_only=True)
class Patience:
    """No evaluated version of so many rounds was better than the best before them."""

    rounds: Annotated[int, Meta(ge=1, le=MAX_COUNT)]
    """So many rounds are waited for something better."""
    metric: str = ""
    """The metric. Empty: that by which the job compares versions."""
    goal: Goal | None = None
    """Whether more of it is better or less. Absent: as the job says of its own metric; of others, less of a "loss"."""
    min_delta: Annotated[float, Meta(ge=0)] = 0.0
    """Better means better by more than this."""
    reads_metrics: ClassVar[bool] = True

    def reason(self, history: History) -> str | None:
        """See `StopRule`."""
        found = values(history, self.metric)
        if not found:
            return None
        best, value = self._best(history, found.items())
        without = max(found) - best
        if without < self.rounds:
            return None
        name = self.metric or history.metric
        return f"{name} has not improved on {value:.6g} of version {best} for {plural(without, 'round')}"

    def _best(self, history: History, found: Iterable[tuple[int, float]]) -> tuple[int, float]:
        """The last version that was better than all before it, and its value."""
        sign = 1 if (self.goal or goal_of(history, self.metric)) == "max" else -1
        (best, value), *others = found
        for version, each in others:
            if sign * (each - value) > self.min_delta:
                best, value = version, each
        return best, value

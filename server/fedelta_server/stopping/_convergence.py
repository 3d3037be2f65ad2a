"""A model that hardly changes any more."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta._words import plural
from fedelta.config import MAX_COUNT
from fedelta.parts import History


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """In each of the latest rounds the model changed by less than a norm."""

    norm: Annotated[float, Meta(gt=0)]
    """The Euclidean norm, over all tensors, of what a round changes the model by."""
    rounds: Annotated[int, Meta(ge=1, le=MAX_COUNT)] = 1
    """In so many rounds, one after the other, it stays below that."""
    reads_metrics: ClassVar[bool] = False

    def reason(self, history: History) -> str | None:
        """See `StopRule`."""
        latest = [each.update_norm for each in history.rounds[-self.rounds :]]
        if len(latest) < self.rounds or max(latest) >= self.norm:
            return None
        return f"the model changed by a norm below {self.norm:g} for {plural(self.rounds, 'round')}: {latest[-1]:.6g}"

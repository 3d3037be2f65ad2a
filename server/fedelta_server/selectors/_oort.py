"""Oort: clients whose data are useful and who are fast, and some of whom nothing is known yet."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta.config import Duration
from fedelta.parts import Candidate, Draw, Sizing
from fedelta_server.selectors._chance import by_weight, in_order

_CUTOFF = 0.95
"""Who has this share of the utility of the last of the best may be drawn in its place (the paper's c)."""
_BONUS = 0.1
"""The paper's weight of staleness."""

Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Oort:
    """By statistical and system utility (Lai et al. 2021, algorithm 1), in the form that follows from records.

    A client's utility is its examples times its loss (the root mean square of the losses of its examples, of which only
    their mean is known here), divided by the greatest such product, plus sqrt(0.1 ln(round) / last round it took part
    in), times (duration / its time) ** penalty where its training takes longer than `duration`. A share of each cohort
    are clients that gave no update or no loss yet, drawn uniformly. The others are drawn in proportion to utility from
    those that have 95 % of what the last of the best has.
    """

    exploration: Share = 0.9
    """In the first round, the share of clients of whom nothing is known."""
    decay: Share = 0.98
    """What that share is multiplied by after each round."""
    least_exploration: Share = 0.2
    """What it does not go below."""
    duration: Duration | None = None
    """How long training may take in the learner before it counts against a client. Absent: the candidates' median."""
    penalty: Annotated[float, Meta(ge=0, le=10)] = 2.0
    """How much that counts."""
    reads_metrics: ClassVar[bool] = True
    sizing: ClassVar[Sizing] = Sizing.ROUNDS

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """See `Selector`."""
        known = [each for each in candidates if each.rounds and each.loss is not None]
        unknown = [each for each in candidates if not each.rounds or each.loss is None]
        share = max(self.least_exploration, self.exploration * self.decay ** (draw.round - 1))
        explored = max(round(share * draw.size), draw.size - len(known))
        new = in_order(unknown, draw)[:explored]
        best = self._best(known, draw, draw.size - len(new)) if len(new) < draw.size else []
        return [each.name for each in (*new, *best)]

    def _best(self, known: Sequence[Candidate], draw: Draw, count: int) -> list[Candidate]:
        if not known:
            return []
        scores = self._utilities(known, draw)
        last = sorted(scores.values(), reverse=True)[:count][-1]
        pool = [each for each in known if scores[each.name] >= _CUTOFF * last]
        return by_weight(pool, draw, lambda each: scores[each.name])[:count]

    def _utilities(self, known: Sequence[Candidate], draw: Draw) -> Mapping[str, float]:
        gains = {each.name: each.examples * abs(each.loss or 0.0) for each in known}
        greatest = max(gains.values()) or 1.0
        duration = self.duration or statistics.median(each.seconds or 0.0 for each in known)
        return {
            each.name: (gains[each.name] / greatest + _bonus(each, draw)) * self._speed(each, duration)
            for each in known
        }

    def _speed(self, candidate: Candidate, duration: float) -> float:
        seconds = candidate.seconds or 0.0
        return (duration / seconds) ** self.penalty if seconds > duration > 0 else 1.0


def _bonus(candidate: Candidate, draw: Draw) -> float:
    return math.sqrt(_BONUS * math.log(draw.round) / candidate.last_round)

"""By label: as many from each group."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta._names import NAME_PATTERN, NAME_RULE
from fedelta.config import Notes
from fedelta.parts import Candidate, Draw, Sizing
from fedelta_server.selectors._chance import in_order


@dataclass(frozen=True, kw_only=True)
class Stratified:
    """As many clients of each value of a label, or nearly: one of each in turn, drawn uniformly within each.

    Where a value has too few clients the others give more. Clients without the label are a group of their own. Which
    groups give one more, where the number does not come out even, is drawn anew in each round. `job.labels` is what
    lets only clients with some label take part at all.
    """

    label: Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z"), Notes(noun="label's name", rule=NAME_RULE)]
    """The label's name, such as "site" for clients with `--label site=north` and `--label site=south`."""
    reads_metrics: ClassVar[bool] = False
    sizing: ClassVar[Sizing] = Sizing.ROUNDS

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        """See `Selector`."""
        turns: Counter[str | None] = Counter()
        order = []
        for each in in_order(candidates, draw):
            value = each.labels.get(self.label)
            turns[value] += 1
            order.append((turns[value], draw.uniform(f"{self.label}={value}"), each.name))
        return [name for _, _, name in sorted(order)[: draw.size]]

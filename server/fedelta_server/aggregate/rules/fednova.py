"""Normalized averaging: who does more local steps does not count for more."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta_server.aggregate.rules._shares import shares


@dataclass(frozen=True, kw_only=True)
class FedNova:
    """Each update by the step, times the average number of steps (Wang et al. 2020, equation 7).

    With p the clients' shares of the examples and tau their effective numbers of local steps (the norm of a), the model
    moves by tau_eff * sum(p * update / tau) with tau_eff = sum(p * tau). So it goes to the minimum of the common
    objective, where FedAvg leans to those who do more steps. An update of no steps does not count.
    """

    needs: ClassVar[Needs] = Needs.SUM
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset({"steps"})
    least: ClassVar[int] = 1

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        """See `Aggregator`."""
        steps = [facts["steps"] for facts in updates.facts]
        pairs = list(zip(shares(updates, "examples").tolist(), steps, strict=True))
        effective = sum(share * each for share, each in pairs)
        return Weighted(factors=tuple(share * effective / each if each > 0 else 0.0 for share, each in pairs))

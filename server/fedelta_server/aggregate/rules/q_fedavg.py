"""Fairness: the worse the model is for a client, the more its update counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from fedelta.config import JobSpec
from fedelta.errors import ConfigError
from fedelta.parts import Measure, Measured, Needs, Rule, Updates, Weighted

_LEAST_LOSS = 1e-10
"""Losses below this count as this, so that powers of them are finite; the authors' code adds as much."""


@dataclass(frozen=True, kw_only=True)
class QFedAvg:
    """Weights by loss, with a step that fits them: q-FedAvg (Li et al. 2020, "Fair resource allocation", algorithm 2).

    With F the loss of the received model at a client, u its update and L = 1 / lr, the model moves by
    sum(L F^q u) / sum(q F^(q-1) L^2 |u|^2 + L F^q). That is a whole step: the server optimizer must be sgd with lr = 1.
    Examples do not count: the paper draws clients by theirs instead. Losses must be positive, as cross-entropy is.
    """

    lr: Annotated[float, Meta(gt=0)]
    """The learning rate that the clients train with; L is 1 / lr."""
    q: Annotated[float, Meta(ge=0, le=100)] = 1.0
    """0: the plain mean; the greater it is, the more alike the losses become."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset({Measure.NORMS})
    facts: ClassVar[frozenset[str]] = frozenset({"loss"})
    least: ClassVar[int] = 1
    synchronous: ClassVar[bool] = True
    requires: ClassVar[Mapping[str, tuple[str, ...]]] = {"server_optimizer": ("sgd",)}

    def check(self, job: JobSpec) -> None:
        """Raises `ConfigError` where the server optimizer would change the step."""
        given = job.server_optimizer.parameters
        if given not in ({}, {"lr": 1}):
            named = ", ".join(f"server_optimizer.{key} = {value!r}" for key, value in given.items())
            raise ConfigError(
                f"{named}: aggregator 'q-fedavg' says itself how long the step is; leave server_optimizer.lr at 1.0 "
                "and drop the rest"
            )

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        """See `Aggregator`."""
        assert measured.norms is not None, "asked for in `measures`"
        losses = [max(facts["loss"], _LEAST_LOSS) for facts in updates.facts]
        # F^q of the greatest loss is in every term; without it no power overflows, and they are not all zero.
        greatest = max(losses)
        powers = [(loss / greatest) ** self.q for loss in losses]
        bends = [
            self.q * power / loss * (norm / self.lr) ** 2
            for power, loss, norm in zip(powers, losses, measured.norms.tolist(), strict=True)
        ]
        total = sum(bends) + sum(powers) / self.lr
        return Weighted(factors=tuple(power / self.lr / total for power in powers))

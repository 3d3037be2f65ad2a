"""How many steps an update is worth: FedNova's effective number of local steps.

Wang et al. 2020, "Tackling the objective inconsistency problem in heterogeneous federated optimization", section 4: an
update is -lr * sum over k of a_k * gradient_k, and its effective number of steps is ||a||_1. Since all a_k are positive
here, that is how far, in learning rates, a gradient that stays 1 would have moved a parameter; so the optimizer's
recursion is run on that. Plain SGD gives the number of steps.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.optim import SGD, Optimizer

from fedelta.local._steps import Held, before_steps
from fedelta.parts import Site


@dataclass
class _Response:
    """What a gradient of 1 does to a parameter of one group of an optimizer."""

    elements: int = 0
    """How many values the group has of the model's."""
    unit: float = 0.0
    """The first learning rate that is not 0: later ones count in proportion."""
    moved: float = 0.0
    """How far the parameter went, in units."""
    velocity: float | None = None

    def step(self, settings: Mapping[str, Any], mu: float) -> None:
        """A step of SGD with these settings, with a proximal term of weight `mu`."""
        rate = float(settings["lr"])
        self.unit = self.unit or rate
        self.moved += (rate / self.unit if self.unit else 1.0) * self._direction(
            settings, 1 - mu * self.unit * self.moved
        )

    def _direction(self, settings: Mapping[str, Any], gradient: float) -> float:
        momentum = settings.get("momentum", 0.0)
        if not momentum:
            return gradient
        fresh = gradient * (1 - settings["dampening"])
        self.velocity = gradient if self.velocity is None else momentum * self.velocity + fresh
        return float(gradient + momentum * self.velocity if settings["nesterov"] else self.velocity)


class StepCount:
    """Counts the steps of all optimizers that hold parameters of the model."""

    def __init__(self, mu: float) -> None:
        self._mu = mu
        self._groups: dict[tuple[int, int], _Response] = {}
        self._optimizers: list[Optimizer] = []
        """Kept, so that no other one gets the id of one of them."""

    @property
    def value(self) -> float:
        """Effective steps; where groups of parameters differ, the mean over all values of the model."""
        responses = list(self._groups.values())
        if len({each.moved for each in responses}) == 1:
            return responses[0].moved
        return sum(each.elements * each.moved for each in responses) / sum(each.elements for each in responses)

    def before_step(self, optimizer: Optimizer, held: list[Held]) -> None:
        """Counts a step."""
        if not any(each is optimizer for each in self._optimizers):
            self._optimizers.append(optimizer)
        stepping = {id(each.parameter) for each in held}
        for index, group in enumerate(optimizer.param_groups):
            elements = sum(each.numel() for each in group["params"] if id(each) in stepping)
            if elements:
                response = self._groups.setdefault((id(optimizer), index), _Response())
                response.elements = max(response.elements, elements)
                # What adaptive optimizers make of a gradient does not grow with it: each of their steps counts as one.
                response.step(*((group, self._mu) if isinstance(optimizer, SGD) else ({"lr": 1.0}, 0.0)))


@contextmanager
def counted(site: Site, mu: float) -> Iterator[StepCount]:
    """Within it steps are counted. `mu`: the weight of the proximal term. Raises `LearnerError` if there are none."""
    count = StepCount(mu)
    with before_steps(site, 'the fact "steps"', count.before_step):
        yield count

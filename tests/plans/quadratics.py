"""Clients whose loss is a parabola, so that what an algorithm does can be said in closed form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fedelta import EvalResult, Learner, Task, TrainResult

Gradient = Callable[[torch.Tensor], torch.Tensor]


class Point(nn.Module):
    """One number in float64, at `start`."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([start], dtype=torch.float64))


class Descending(Learner):
    """Follows the gradient that it is given for so many steps of SGD."""

    def __init__(self, gradient: Gradient, steps: int, **options: Any) -> None:
        self._gradient, self._steps = gradient, steps
        self._options = {"lr": 0.1, **options}

    def model(self) -> nn.Module:
        return Point()

    def train(self, model: Any, task: Task) -> TrainResult:  # noqa: ARG002
        optimizer = torch.optim.SGD(model.parameters(), **self._options)
        for _ in range(self._steps):
            model.x.grad = self._gradient(model.x.detach())
            optimizer.step()
        return TrainResult(examples=1)

    def evaluate(self, model: Any, task: Task) -> EvalResult:  # noqa: ARG002
        return EvalResult(examples=1, metrics={"x": model.x.item()})


class Solving(Descending):
    """Finds the minimum of curvature / 2 * (x - centre)^2 + weight / 2 * (x - received)^2, if the second term is there.

    From where the first step leads, the second is Newton's: right if the gradient has the term, and only then.
    """

    def __init__(self, curvature: float, centre: float, weight: float) -> None:
        super().__init__(lambda x: curvature * (x - centre), 2)
        self._curvature = curvature + weight

    def train(self, model: Any, task: Task) -> TrainResult:  # noqa: ARG002
        optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
        for rate in (0.03, 1 / self._curvature):
            optimizer.param_groups[0]["lr"] = rate
            model.x.grad = self._gradient(model.x.detach())
            optimizer.step()
        return TrainResult(examples=1)

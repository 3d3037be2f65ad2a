"""A learner with torch. Copied to where a test's client starts."""

from typing import Any

import torch
from torch import nn

from fedelta import Learner, Task, TrainResult


class Drifting(Learner):
    """Takes one step along the gradient that `config["gradient"]` gives, with a learning rate of 1."""

    def model(self) -> nn.Module:
        model = nn.Module()
        model.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        return model

    def train(self, model: Any, task: Task) -> TrainResult:
        model.x.grad = torch.full((2,), task.config["gradient"], dtype=torch.float64)
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        return TrainResult(examples=4)

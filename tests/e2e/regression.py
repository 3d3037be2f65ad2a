"""A learner on torch that plans can change: linear regression on a few points, by the common training loop."""

from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from fedelta import EvalResult, Task
from fedelta.torch import TorchLearner


class Regression(TorchLearner):
    """Its points follow from the name of its data folder: as many sites, as many lines."""

    def setup(self) -> None:
        drawn = torch.Generator().manual_seed(sum(self.data.name.encode()))
        inputs = torch.randn(8 + len(self.data.name), 3, generator=drawn)
        slope = torch.randn(3, 1, generator=drawn)
        self.points = TensorDataset(inputs, inputs @ slope + 1)

    def model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    def dataset(self) -> Dataset[Any]:
        return self.points

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.mse_loss(model(inputs), targets)

    def evaluate(self, model: torch.nn.Module, task: Task) -> EvalResult:
        del task
        with torch.no_grad():
            loss = self.loss(model, self.points.tensors)
        return EvalResult(examples=len(self.points), metrics={"loss": loss.item()})

"""A small binary classifier, 100 inputs -> 10 ReLU -> 1: what a site says of its model, its data and its loss."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import TensorDataset

from fedelta import EvalResult, Task
from fedelta.torch import TorchLearner


class Binary(TorchLearner):
    """Trains on the `x` and `y` of a site's file by the common loop; every fifth sample is kept back to evaluate on."""

    def setup(self) -> None:
        with np.load(self.data) as file:
            x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        kept_back = torch.arange(len(y)) % 5 == 0
        self.train_set = TensorDataset(x[~kept_back], y[~kept_back])
        self.test_x, self.test_y = x[kept_back], y[kept_back]

    def model(self, inputs: int = 100, hidden: int = 10) -> nn.Module:
        layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Flatten(0))
        return layers.to(self.device)

    def dataset(self) -> TensorDataset:
        return self.train_set

    def loss(self, model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        return binary_cross_entropy_with_logits(model(inputs), targets)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:
        scores, targets = model(self.test_x.to(task.device)), self.test_y.to(task.device)
        right = (scores > 0) == (targets > 0.5)
        metrics = {
            "loss": binary_cross_entropy_with_logits(scores, targets).item(),
            "accuracy": right.float().mean().item(),
        }
        return EvalResult(examples=len(targets), metrics=metrics)

"""Softmax regression on handwritten digits: what a site says of its model, its data and its loss."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fedelta import EvalResult, Task
from fedelta.torch import TorchLearner, evaluate_classifier


class Softmax(TorchLearner):
    """Trains on `train.npz` by the common loop and evaluates on `test.npz`."""

    def setup(self) -> None:
        self.train_set, self.test_set = self.read("train.npz"), self.read("test.npz")

    def read(self, name: str) -> TensorDataset:
        with np.load(self.data / name) as shard:
            return TensorDataset(torch.from_numpy(shard["x"]), torch.from_numpy(shard["y"]))

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(self.device)

    def dataset(self) -> TensorDataset:
        return self.train_set

    def loss(self, model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(model(inputs), targets)

    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:
        return evaluate_classifier(model, DataLoader(self.test_set, batch_size=256), task)

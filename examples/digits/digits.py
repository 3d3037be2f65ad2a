"""Handwritten digits, learned where they are: a learner in full."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fedelta import EvalResult, Learner, Task, TrainResult
from fedelta.torch import evaluate_classifier, fit, seeded_loader


class Digits(Learner):
    """A small CNN on 8x8 images; trains on `train.npz` and evaluates on `test.npz`."""

    def setup(self) -> None:
        self.train_set, self.test_set = self.read("train.npz"), self.read("test.npz")

    def read(self, name: str) -> TensorDataset:
        with np.load(self.data / name) as shard:
            return TensorDataset(torch.from_numpy(shard["x"]), torch.from_numpy(shard["y"]))

    def model(self) -> nn.Module:
        features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
        return nn.Sequential(features, classifier).to(self.device)

    def train(self, model: nn.Module, task: Task) -> TrainResult:
        loader = seeded_loader(self.train_set, task, batch_size=task.config.get("batch_size", 16))
        optimizer = torch.optim.SGD(model.parameters(), lr=task.config["lr"])
        loss = fit(model, loader, task, optimizer=optimizer, loss=cross_entropy, epochs=task.config["epochs"])
        return TrainResult(examples=len(self.train_set), metrics={"loss": loss})

    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:
        return evaluate_classifier(model, DataLoader(self.test_set, batch_size=256), task)

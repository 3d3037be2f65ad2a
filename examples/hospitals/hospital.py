"""Is the tumour malignant? Logistic regression on the patients of one hospital: a learner in full."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset, TensorDataset

from fedelta import EvalResult, Learner, Task, TrainResult
from fedelta.statistics import read_columns
from fedelta.torch import evaluate_classifier, fit, seeded_loader


class Diagnosis(nn.Module):
    """Scores for benign and malignant, from rows as they are in the CSV with columns in alphabetical order.

    Mean and deviation are part of the model: who has its file needs nothing else to use it.
    """

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(columns, dtype=torch.float64))
        self.linear = nn.Linear(columns, 2, dtype=torch.float64)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear((rows - self.mean) / self.deviation)

    def standardize(self, statistics: Mapping[str, Any], columns: Sequence[str]) -> None:
        """Takes over the mean and deviation of each column. A constant column has no deviation to divide by."""
        self.mean.copy_(torch.tensor([statistics[name]["mean"] for name in columns]))
        self.deviation.copy_(torch.tensor([statistics[name]["deviation"] or 1.0 for name in columns]))


class Hospital(Learner):
    """Trains on the CSV of one hospital; every fifth patient is kept back to evaluate on."""

    def setup(self) -> None:
        patients = self.read(self.data)
        kept_back = range(0, len(patients), 5)
        self.train_set = Subset(patients, sorted(set(range(len(patients))) - set(kept_back)))
        self.test_set = Subset(patients, kept_back)

    def read(self, path: Path) -> TensorDataset:
        table = read_columns(path)
        malignant = table.pop("diagnosis") == "malignant"
        self.columns = sorted(table)
        rows = np.column_stack([table[name] for name in self.columns])
        return TensorDataset(torch.from_numpy(rows), torch.from_numpy(malignant.astype(np.int64)))

    def model(self) -> Diagnosis:
        return Diagnosis(len(self.columns)).to(self.device)

    def train(self, model: Diagnosis, task: Task) -> TrainResult:
        if "statistics" not in task.config:
            raise ValueError("submit the job with --set train.statistics=@stats.json, see README.md")
        model.standardize(task.config["statistics"], self.columns)
        loader = seeded_loader(self.train_set, task, batch_size=task.config["batch_size"])
        optimizer = torch.optim.SGD(model.parameters(), lr=task.config["lr"])
        loss = fit(model, loader, task, optimizer=optimizer, loss=cross_entropy, epochs=task.config["epochs"])
        return TrainResult(examples=len(self.train_set), metrics={"loss": loss})

    def evaluate(self, model: Diagnosis, task: Task) -> EvalResult:
        return evaluate_classifier(model, DataLoader(self.test_set, batch_size=256), task)

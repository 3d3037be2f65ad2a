"""The learners of the report: small, so that what is compared is how updates become models."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.science.stragglers import Stragglers
from benchmarks.science.synthetic import CLASSES, INPUTS, Array
from fedelta import EvalResult, Learner, Task, TrainResult
from fedelta.torch import TorchLearner, evaluate_classifier


class Softmax(Learner):
    """Softmax regression on one device of Synthetic(alpha, beta); `data` is the `Device`.

    Its loop computes the gradient with numpy, for a batch of ten in a fifth of autograd's time; the optimizer's steps
    are torch's, so that plans find them. Where [train] says so, a device that straggles has time for fewer epochs.
    """

    def setup(self) -> None:
        device: Any = self.data
        self._x, self._y, self._cut = device.x, device.y, device.cut

    def model(self) -> nn.Linear:
        model = nn.Linear(INPUTS, CLASSES)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    def train(self, model: nn.Linear, task: Task) -> TrainResult:
        epochs = Stragglers.of(task.config).epochs(task.round, task.client, task.config["epochs"])
        optimizer = torch.optim.SGD(model.parameters(), lr=task.config["lr"])
        gradient, rng = _SoftmaxGradient(model), np.random.default_rng(task.seed)
        for _ in range(epochs):
            order = rng.permutation(self._cut)
            for first in range(0, self._cut, task.config["batch_size"]):
                batch = order[first : first + task.config["batch_size"]]
                gradient.write(self._x[batch], self._y[batch])
                optimizer.step()
        return TrainResult(examples=self._cut)

    def evaluate(self, model: nn.Linear, task: Task) -> EvalResult:
        with torch.no_grad():
            x, labels = (torch.from_numpy(each).to(task.device) for each in (self._x, self._y))
            logits = model(x)
        loss = cross_entropy(logits[: self._cut], labels[: self._cut])
        right = (logits.argmax(1) == labels)[self._cut :].sum()
        tested = len(labels) - self._cut
        return EvalResult(examples=tested, metrics={"loss": loss.item(), "accuracy": right.item() / tested})


class _SoftmaxGradient:
    """The gradient of a linear model's mean cross-entropy, written where torch's optimizers look for it."""

    def __init__(self, model: nn.Linear) -> None:
        model.weight.grad, model.bias.grad = torch.zeros_like(model.weight), torch.zeros_like(model.bias)
        self._weight, self._bias = model.weight.detach().numpy(), model.bias.detach().numpy()
        self._to_weight, self._to_bias = model.weight.grad.numpy(), model.bias.grad.numpy()

    def write(self, x: Array, y: Array) -> None:
        """For a batch: inputs of shape (batch, 60), labels of shape (batch,)."""
        error = x @ self._weight.T + self._bias
        error -= error.max(1, keepdims=True)
        np.exp(error, out=error)
        error /= error.sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        np.matmul(error.T, x, out=self._to_weight)
        error.sum(0, out=self._to_bias)


class DigitsMlp(TorchLearner):
    """64-64-10 on scikit-learn's digits, from the demo's shards."""

    def setup(self) -> None:
        self._train, self._test = self._read("train.npz"), self._read("test.npz")

    def _read(self, name: str) -> TensorDataset:
        with np.load(Path(self.data) / name) as shard:
            return TensorDataset(torch.from_numpy(shard["x"]), torch.from_numpy(shard["y"]))

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def dataset(self) -> TensorDataset:
        return self._train

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return -log_softmax(model(inputs), 1).gather(1, targets[:, None]).mean()

    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:
        return evaluate_classifier(model, DataLoader(self._test, batch_size=512), task)

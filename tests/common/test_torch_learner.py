"""A learner that leaves training to the common loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from fedelta import Task
from fedelta.errors import LearnerError
from fedelta.execution import Workbench
from fedelta.torch import TorchLearner

X = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 3


class Line(TorchLearner):
    """Least squares."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def model(self) -> nn.Module:
        return nn.Linear(3, 1, dtype=torch.float64)

    def dataset(self) -> Dataset[Any]:
        return TensorDataset(X, Y)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        self.batches.append(len(inputs))
        return nn.functional.mse_loss(model(inputs).squeeze(1), targets)


def trained(folder: Path, learner: TorchLearner, **config: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The model before, and the update."""
    bench = Workbench(learner)
    bench.initialize(Task(seed=3), folder / "model")
    done = bench.train(Task(seed=5, config=config), folder / "model", folder / "update")
    assert done.examples == 10
    return load_file(folder / "model"), load_file(folder / "update")


def by_hand(start: dict[str, np.ndarray], make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> torch.Tensor:
    """By how much three full steps change the weights."""
    weight, bias = (torch.tensor(start[name], requires_grad=True) for name in ("weight", "bias"))
    optimizer = make([weight, bias])
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(X @ weight[0] + bias, Y).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()
    return weight.detach() - torch.tensor(start["weight"])


@pytest.mark.parametrize(
    ("config", "make"),
    [
        ({"lr": 0.1}, lambda values: torch.optim.SGD(values, lr=0.1)),
        (
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
            lambda values: torch.optim.SGD(values, lr=0.1, momentum=0.9, weight_decay=0.01),
        ),
        ({"optimizer": "adam", "lr": 0.01}, lambda values: torch.optim.Adam(values, lr=0.01)),
        (
            {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
            lambda values: torch.optim.AdamW(values, lr=0.01, weight_decay=0.1),
        ),
    ],
)
def test_the_loop_does_what_the_train_table_says(tmp_path: Path, config: dict[str, Any], make: Any) -> None:
    start, update = trained(tmp_path, Line(), epochs=3, batch_size="all", mine="its own", **config)
    np.testing.assert_allclose(update["weight"], by_hand(start, make).numpy(), rtol=1e-12)


def test_batches_are_as_long_as_it_says_and_in_an_order_of_the_task(tmp_path: Path) -> None:
    learner = Line()
    _, first = trained(tmp_path, learner, lr=0.1, batch_size=4, epochs=2)
    assert learner.batches == [4, 4, 2, 4, 4, 2]
    _, again = trained(tmp_path, Line(), lr=0.1, batch_size=4, epochs=2)
    assert again["weight"].tolist() == first["weight"].tolist()


def test_what_is_frozen_is_not_trained(tmp_path: Path) -> None:
    class Frozen(Line):
        def model(self) -> nn.Module:
            model = nn.Linear(3, 1, dtype=torch.float64)
            model.bias.requires_grad_(False)
            return model

    _, update = trained(tmp_path, Frozen(), lr=0.1)
    assert update["bias"].tolist() == [0]
    assert np.abs(update["weight"]).min() > 0


class Endless(IterableDataset[Any]):
    """Nobody knows how long it is."""

    def __iter__(self) -> Any:
        yield X[0], Y[0]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, r"\[train\]: lr is missing; give a learning rate"),
        ({"lr": "fast"}, r"\[train\]: Expected `float \| null`, got `str` - at `lr`"),
        ({"lr": 0.1, "epochs": 0}, r"\[train\]: .* >= 1 - at `epochs`"),
        ({"lr": 0.1, "batch_size": "some"}, r"\[train\]: .*batch_size"),
        ({"lr": 0.1, "optimizer": "sgdd"}, r"\[train\]: .*'sgdd' - at `optimizer`"),
        ({"lr": 0.1, "optimizer": "adam", "momentum": 0.9}, r'momentum is of optimizer = "sgd"; "adam" has its own'),
    ],
)
def test_what_is_wrong_in_the_train_table_is_named(tmp_path: Path, config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint):
        trained(tmp_path, Line(), **config)


def test_data_without_length_is_named(tmp_path: Path) -> None:
    class Streaming(Line):
        def dataset(self) -> Dataset[Any]:
            return Endless()

    with pytest.raises(LearnerError, match=r"dataset\(\) gave a Endless, which has no length"):
        trained(tmp_path, Streaming(), lr=0.1)


def test_what_must_be_defined_is_named(tmp_path: Path) -> None:
    class Bare(TorchLearner):
        def model(self) -> nn.Module:
            return nn.Linear(3, 1)

    with pytest.raises(NotImplementedError, match=r"Bare must define dataset\(\)"):
        trained(tmp_path, Bare(), lr=0.1)


def test_batches_may_be_dictionaries(tmp_path: Path) -> None:
    class Named(Line):
        def loader(self, task: Task, *, shuffle: bool = True) -> Any:
            plain = super().loader(task, shuffle=shuffle)
            return [{"id": "b", "inputs": inputs, "targets": targets} for inputs, targets in plain]

        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            return super().loss(model, (batch["inputs"], batch["targets"]))

    _, update = trained(tmp_path, Named(), lr=0.1, batch_size=4)
    _, plain = trained(tmp_path, Line(), lr=0.1, batch_size=4)
    assert update["weight"].tolist() == plain["weight"].tolist()

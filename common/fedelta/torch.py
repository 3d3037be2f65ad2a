"""The common parts of a PyTorch learner: a seeded loader, the training loop, evaluation of a classifier."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fedelta.learner import EvalResult, Task

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets) -> the batch's mean loss, shape ()."""


def seeded_loader(
    dataset: Dataset[Any], task: Task, batch_size: int, *, shuffle: bool = True, **options: Any
) -> DataLoader[Any]:
    """A `DataLoader` whose order, and whose workers' seeds, follow from the task alone.

    `options` go to `DataLoader`, for example `num_workers=2`.
    """
    generator = torch.Generator().manual_seed(task.seed)
    return DataLoader(dataset, batch_size, shuffle=shuffle, generator=generator, **options)


def fit(
    model: torch.nn.Module,
    loader: DataLoader[Any],
    task: Task,
    *,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    epochs: int,
) -> float:
    """Trains `model` on batches of (inputs, targets); returns the mean loss per example in the last epoch.

    Runs on `task.device`, where the model must be, and reports after each epoch.
    """
    mean = 0.0
    for epoch in range(epochs):
        mean = _epoch(model, loader, task.device, optimizer, loss)
        task.report((epoch + 1) / epochs, loss=mean)
    return mean


def _epoch(
    model: torch.nn.Module, loader: DataLoader[Any], device: str, optimizer: torch.optim.Optimizer, loss: Loss
) -> float:
    total, examples = torch.zeros((), device=device), 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        # Stays on the device: item() would make an accelerator wait at every step.
        total += value.detach() * len(targets)
        examples += len(targets)
    return total.item() / max(examples, 1)


@torch.no_grad()
def evaluate_classifier(
    model: torch.nn.Module,
    loader: DataLoader[Any],
    task: Task,
    *,
    loss: Loss = torch.nn.functional.cross_entropy,
) -> EvalResult:
    """Accuracy (share of largest outputs at the target) and mean loss per example over (inputs, targets)."""
    total, correct = torch.zeros((), device=task.device), torch.zeros((), dtype=torch.int64, device=task.device)
    examples = 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(task.device), targets.to(task.device)
        outputs = model(inputs)
        total += loss(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        examples += len(targets)
    metrics = {"accuracy": correct.item() / max(examples, 1), "loss": total.item() / max(examples, 1)}
    return EvalResult(examples=examples, metrics=metrics)

"""For learners in PyTorch: a learner with the common training loop, and its parts for those with one of their own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch.utils.data import DataLoader, Dataset

from fedelta.errors import LearnerError
from fedelta.learner import EvalResult, Learner, Task, TrainResult

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets) -> the batch's mean loss, shape ()."""


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the common training loop takes from the [train] table. Other keys there are the learner's own."""

    epochs: Annotated[int, Meta(ge=1)] = 1
    batch_size: Annotated[int, Meta(ge=1)] | Literal["all"] = 32
    """Examples in a batch; "all": all local data is one."""
    lr: Annotated[float, Meta(ge=0)] | None = None
    """The learning rate. It must be there to train."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Annotated[float, Meta(ge=0)] = 0.0
    """Of sgd."""
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0

    @classmethod
    def of(cls, task: Task) -> "TrainSettings":
        """Those of a task. Raises `LearnerError` naming what is wrong."""
        try:
            found = msgspec.convert(dict(task.config), cls)
        except msgspec.ValidationError as error:
            raise LearnerError(f"[train]: {error}".replace("`$.", "`")) from None
        if found.momentum and found.optimizer != "sgd":
            raise LearnerError(f'[train]: momentum is of optimizer = "sgd"; "{found.optimizer}" has its own')
        return found


@dataclass(frozen=True, kw_only=True)
class FullGradient:
    """The gradient of the mean loss over all local data."""

    gradients: Mapping[str, torch.Tensor]
    """By parameter; those that have none are left out."""
    loss: float
    """The mean loss."""
    examples: int


class TorchLearner(Learner):
    """A learner that trains by the common loop: it says what its model, its data and its loss are.

    The loop goes over the data in an order that follows from the task, `epochs` times, in batches of `batch_size`, with
    the `optimizer` that [train] names at the learning rate `lr` (see `TrainSettings`).

    Plans that need the gradient over all local data, or the loss of a model that was not trained, work with learners
    that leave `train` as it is here.
    """

    def dataset(self) -> Dataset[Any]:
        """The local training data; it must have a length."""
        raise NotImplementedError(f"{type(self).__name__} must define dataset()")

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The mean loss over the examples of a batch, shape (). The batch's tensors are on `device`."""
        raise NotImplementedError(f"{type(self).__name__} must define loss()")

    def optimizer(self, model: torch.nn.Module, task: Task) -> torch.optim.Optimizer:
        """A new optimizer for the parameters that are to be trained: the one that [train] names."""
        settings = TrainSettings.of(task)
        if settings.lr is None:
            raise LearnerError("[train]: lr is missing; give a learning rate, for example lr = 0.1")
        return _optimizer(settings, settings.lr, [each for each in model.parameters() if each.requires_grad])

    def loader(self, task: Task, *, shuffle: bool = True) -> DataLoader[Any]:
        """The training data in batches."""
        dataset, size = self.dataset(), TrainSettings.of(task).batch_size
        return seeded_loader(dataset, task, _length(dataset) if size == "all" else size, shuffle=shuffle)

    def train(self, model: torch.nn.Module, task: Task) -> TrainResult:
        """The common loop; its metric "loss" is the mean loss per example in the last epoch."""
        examples, settings = _length(self.dataset()), TrainSettings.of(task)
        loss = _fit(model, self.loader(task), task, self.optimizer(model, task), self.loss, settings.epochs)
        return TrainResult(examples=examples, metrics={"loss": loss})

    @torch.no_grad()
    def mean_loss(self, model: torch.nn.Module, task: Task) -> float:
        """The mean loss per example over all training data, in evaluation mode."""
        model.eval()
        return sum(share * self.loss(model, batch).item() for batch, share in self._all(task))

    def full_gradient(
        self, model: torch.nn.Module, task: Task, parameters: Mapping[str, torch.nn.Parameter]
    ) -> FullGradient:
        """The gradient of the mean loss over all training data, in evaluation mode; the model stays as it is."""
        model.eval()
        model.zero_grad(set_to_none=True)
        total = seen = 0.0
        for batch, share in self._all(task):
            loss = self.loss(model, batch) * share
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.item()
            seen += share
            task.report(seen)
        found = {name: each.grad for name, each in parameters.items() if each.grad is not None}
        model.zero_grad(set_to_none=True)
        return FullGradient(gradients=found, loss=total, examples=_length(self.dataset()))

    def _all(self, task: Task) -> Iterator[tuple[Any, float]]:
        """All training data in batches, each with the share of the examples that are in it."""
        whole, seen = _length(self.dataset()), 0
        for batch in self.loader(task, shuffle=False):
            size = _size(batch)
            seen += size
            yield _to(batch, task.device), size / whole
        if seen != whole:
            raise LearnerError(
                f"loader() gave {seen} of {whole} examples; all are needed here, so drop_last must be off"
            )


_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def _optimizer(settings: TrainSettings, lr: float, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    more = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    return _OPTIMIZERS[settings.optimizer](parameters, lr=lr, weight_decay=settings.weight_decay, **more)


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

    def of_batch(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return loss(model(inputs), targets)

    return _fit(model, loader, task, optimizer, of_batch, epochs)


BatchLoss = Callable[[torch.nn.Module, Any], torch.Tensor]


def _fit(
    model: torch.nn.Module,
    loader: DataLoader[Any],
    task: Task,
    optimizer: torch.optim.Optimizer,
    loss: BatchLoss,
    epochs: int,
) -> float:
    mean = 0.0
    for epoch in range(epochs):
        mean = _epoch(model, loader, task.device, optimizer, loss)
        task.report((epoch + 1) / epochs, loss=mean)
    return mean


def _epoch(
    model: torch.nn.Module, loader: DataLoader[Any], device: str, optimizer: torch.optim.Optimizer, loss: BatchLoss
) -> float:
    total, examples = torch.zeros((), device=device), 0
    for batch in loader:
        optimizer.zero_grad()
        value = loss(model, _to(batch, device))
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        # Stays on the device: item() would make an accelerator wait at every step.
        size = _size(batch)
        total += value.detach() * size
        examples += size
    return total.item() / max(examples, 1)


def _length(dataset: Any) -> int:
    try:
        length = len(dataset)
    except TypeError:
        raise LearnerError(f"dataset() gave a {type(dataset).__name__}, which has no length") from None
    if length == 0:
        raise LearnerError("dataset() is empty: there is nothing to train on here")
    return length


def _to(batch: Any, device: str) -> Any:
    """The batch with its tensors on the device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _to(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_to(value, device) for value in batch]
    return batch


def _size(batch: Any) -> int:
    """How many examples are in a batch: the length of its first tensor."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.dim() else 0
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    for part in parts:
        size = _size(part)
        if size:
            return size
    return 0


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

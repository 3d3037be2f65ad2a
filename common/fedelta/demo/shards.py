"""scikit-learn's handwritten digits, dealt out to clients the way hospitals or phones hold data: unevenly."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fedelta.demo.digits import Digits
from fedelta.execution import seed_everything
from fedelta.learner import Task

Indices = npt.NDArray[np.intp]

TEST_SHARE = 0.2


def write_shards(folder: Path, clients: int, *, alpha: float | None = None, seed: int = 0) -> list[Path]:
    """Deals the digits out to `clients` folders and returns them; `folder / "pooled"` gets all of the data.

    Each folder holds `train.npz` and `test.npz` with `x` (float32 of shape (n, 1, 8, 8), pixels of mean 0 and
    variance 1) and `y` (int64 of shape (n,)). Without `alpha` the training data is dealt out at random and evenly
    (IID), else by label with shares from Dirichlet(alpha): the smaller, the more each client lacks whole digits
    (Hsu et al. 2019).

    The test data, a fifth of all with every digit in proportion, is dealt out at random without overlap: the average of
    the clients' accuracies, weighted by examples, is the accuracy on the whole of it. Raises `ValueError` where there
    are more clients than test examples.
    """
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    scaled = (images - images.mean()) / images.std()
    x, y = scaled.astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)
    train, test = train_test_split(np.arange(len(y)), test_size=TEST_SHARE, stratify=y, random_state=seed)
    if not 1 <= clients <= len(test):
        raise ValueError(f"there is data for 1 to {len(test)} clients, not for {clients}")
    trains = _evenly(rng, train, clients) if alpha is None else _by_label(rng, train, y[train], clients, alpha)
    folders = [folder / f"client-{i:0{len(str(clients))}}" for i in range(1, clients + 1)]
    for target, mine, tested in zip(folders, trains, _evenly(rng, test, clients), strict=True):
        _write(target, x, y, mine, tested)
    _write(folder / "pooled", x, y, train, test)
    return folders


def pooled_accuracy(pooled: Path, config: Mapping[str, Any], *, epochs: int = 20, seed: int = 0) -> float:
    """Test accuracy of the same learner trained on all of the data in one place: what federation is measured by."""
    learner = Digits()
    learner.data = pooled
    learner.setup()
    task = Task(seed=seed, config={**config, "epochs": epochs})
    seed_everything(task.seed)
    with _one_torch_thread():
        model = learner.model()
        learner.train(model, task)
        return learner.evaluate(model.eval(), task).metrics["accuracy"]


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """As trainer processes have it: more threads are slower on a model as small as this one, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _evenly(rng: np.random.Generator, found: Indices, parts: int) -> list[Indices]:
    return np.array_split(rng.permutation(found), parts)


def _by_label(
    rng: np.random.Generator, found: Indices, labels: npt.NDArray[np.int64], parts: int, alpha: float
) -> list[Indices]:
    """Each label's examples go to the parts in shares drawn from a symmetric Dirichlet distribution."""
    dealt: list[list[Indices]] = [[] for _ in range(parts)]
    for label in np.unique(labels):
        mine = rng.permutation(found[labels == label])
        shares = rng.dirichlet(np.full(parts, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(mine)).astype(int)
        for part, piece in zip(dealt, np.split(mine, cuts), strict=True):
            part.append(piece)
    return _none_empty([np.concatenate(pieces) for pieces in dealt])


def _none_empty(parts: Iterable[Indices]) -> list[Indices]:
    """Gives each empty part one example of the largest: a client must have something to train on."""
    found = list(parts)
    for i, part in enumerate(found):
        if not len(part):
            largest = max(range(len(found)), key=lambda j: len(found[j]))
            found[largest], found[i] = found[largest][:-1], found[largest][-1:]
    return found


def _write(folder: Path, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], train: Indices, test: Indices) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", x=x[train], y=y[train])
    np.savez(folder / "test.npz", x=x[test], y=y[test])

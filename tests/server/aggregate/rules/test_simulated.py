"""Rules in whole jobs, from their names in a job file to the model: what clients tell reaches them, and who is wrong
does not reach the model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils.data import DataLoader, TensorDataset

from fedelta import Learner, Task, TrainResult
from fedelta.torch import TorchLearner, seeded_loader
from fedelta_server.engine.words import JobState, Outcome
from fedelta_server.simulation import History, simulate


def ended(folder: Path, learner: type[Learner], data: Mapping[str, Any], rounds: int, **tables: Any) -> History:
    """A simulated job; its model is in `folder`."""
    job = {
        "job": {"name": "rules", "seed": 7},
        "model": {"init": "first-client"},
        "rounds": {"max": rounds},
        "evaluate": {"every": 0},
        **tables,
    }
    history = simulate(job, learner, data=data, out=folder / "model.safetensors")
    assert history.state is JobState.FINISHED, history.reason
    return history


def value(folder: Path) -> float:
    return float(load_file(folder / "model.safetensors")["x"].mean())


class Parabola(TorchLearner):
    """Half of |x - centre|^2 for each of 20 examples; its data is the centre and how many steps an epoch has."""

    data: Any = None

    def model(self) -> torch.nn.Module:
        module = torch.nn.Module()
        module.x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        return module

    def dataset(self) -> TensorDataset:
        centre, _ = self.data
        return TensorDataset(torch.full((20, 1), centre, dtype=torch.float64))

    def loader(self, task: Task, *, shuffle: bool = True) -> DataLoader[Any]:
        _, steps = self.data
        return seeded_loader(self.dataset(), task, 20 // steps, shuffle=shuffle)

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        found: torch.Tensor = ((model.x - batch[0]) ** 2).mean() / 2
        return found


def test_fednova_hears_of_the_steps(tmp_path: Path) -> None:
    """REFERENCES: e = (0, 1, 4), tau = (1, 5, 20), eta = 0.1; FedAvg's limit would be 2.82665115 (Wang et al. 2020)."""
    sites = {"a": (0.0, 1), "b": (1.0, 5), "c": (4.0, 20)}
    ended(tmp_path, Parabola, sites, 22, train={"lr": 0.1}, aggregator={"name": "fednova"})
    assert value(tmp_path) == pytest.approx(1.14065652, abs=1e-8)


def test_q_fedavg_hears_of_the_loss_before_training(tmp_path: Path) -> None:
    """Li et al. 2020, algorithm 2, for q = 1 and L = 10: by hand, from losses 1/2 and 9/2 and updates 0.1 and 0.3."""
    sites = {"a": (1.0, 1), "b": (3.0, 1)}
    aggregator = {"name": "q-fedavg", "lr": 0.1, "q": 1.0}
    ended(tmp_path, Parabola, sites, 1, train={"lr": 0.1}, aggregator=aggregator)
    step = 0.5 * 1 + 4.5 * 3  # sum of F^q L u, where L u is the gradient
    bend = (1**2 + 10 * 0.5) + (3**2 + 10 * 4.5)  # sum of q F^(q-1) |L u|^2 + L F^q
    assert value(tmp_path) == pytest.approx(step / bend, rel=1e-12)


class Votes(Learner):
    """Goes halfway to 1; its data is what it sends instead, if it is wrong."""

    data: Any = None

    def model(self) -> dict[str, Any]:
        return {"x": np.zeros(20, np.float32)}

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:  # noqa: ARG002
        honest = (1 - model["x"]) / 2 + np.random.normal(0, 0.01, 20)
        model["x"] += honest if self.data is None else self.data
        return TrainResult(examples=5)


def sites(*wrong: float) -> dict[str, float | None]:
    """Eleven sites, the first of which send that."""
    return {f"site-{number:02}": wrong[number] if number < len(wrong) else None for number in range(11)}


@pytest.mark.parametrize(
    "aggregator",
    [
        {"name": "median"},
        {"name": "trimmed-mean", "share": 0.2},
        {"name": "krum", "byzantine": 2},
        {"name": "multi-krum", "byzantine": 2},
        {"name": "bulyan", "byzantine": 2},
        {"name": "geometric-median"},
    ],
    ids=lambda aggregator: aggregator["name"],
)
def test_two_that_send_millions_change_nothing(tmp_path: Path, aggregator: dict[str, Any]) -> None:
    ended(tmp_path, Votes, sites(1e6, -1e6), 5, aggregator=aggregator)
    assert value(tmp_path) == pytest.approx(1, abs=0.06)


def test_the_mean_follows_one_that_sends_millions(tmp_path: Path) -> None:
    ended(tmp_path, Votes, sites(1e6), 5)
    assert value(tmp_path) > 1e5


def test_a_bounded_norm_bounds_what_one_can_do(tmp_path: Path) -> None:
    """Five rounds of a norm of 1 at most, of 1/11 of the weight, in each of 20 values."""
    ended(tmp_path, Votes, sites(1e6), 5, aggregator={"name": "norm-bounded", "norm": 1.0})
    assert 0 < value(tmp_path) < 5 / 20**0.5


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
def test_what_is_no_number_never_reaches_the_model(tmp_path: Path, wrong: float) -> None:
    history = ended(tmp_path, Votes, sites(wrong), 2)
    assert value(tmp_path) == pytest.approx(0.75, abs=0.02)
    for closed in history.rounds:
        outcomes = {part.client: part.outcome for part in closed.clients}
        assert outcomes.pop("site-00") in (Outcome.FAILED, Outcome.REJECTED)
        assert set(outcomes.values()) == {Outcome.ACCEPTED}

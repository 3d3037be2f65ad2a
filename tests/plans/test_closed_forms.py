"""Algorithms on parabolas, against what their papers' recursions come to; REFERENCES.md has the values."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from fedelta.torch import TorchLearner
from tests.plans.federation import Federation
from tests.plans.quadratics import Descending, Solving

NOVA = '[local]\nname = "fednova"\n[aggregator]\nname = "fednova"\n'


def parabola(centre: float, steps: int) -> Descending:
    return Descending(lambda x: x - centre, steps, lr=0.1)


@pytest.mark.parametrize(("job", "limit"), [("", 2.82665115), (NOVA, 1.14065652)])
def test_fednova_leaves_averaging_that_favours_who_steps_more(tmp_path: Path, job: str, limit: float) -> None:
    """Wang et al. 2020: 1/2 |x - e|^2 with e = 0, 1, 4, trained for 1, 5 and 20 steps. The optimum is 5/3."""
    clients = {"a": parabola(0.0, 1), "b": parabola(1.0, 5), "c": parabola(4.0, 20)}
    federation = Federation(tmp_path, clients, job)
    federation.rounds(60)
    assert federation.model["x"][0] == pytest.approx(limit, abs=1e-7)


def drifting(steps: int) -> dict[str, Descending]:
    """f1 = x^2 / 2 + x and f2 = -x: the optimum of their mean is 0."""
    return {
        "a": Descending(lambda x: x + 1, steps, lr=0.05),
        "b": Descending(lambda x: -torch.ones_like(x), steps, lr=0.05),
    }


@pytest.mark.parametrize(("steps", "limit"), [(2, 0.02564103), (10, 0.24606536)])
def test_fedavg_drifts(tmp_path: Path, steps: int, limit: float) -> None:
    federation = Federation(tmp_path, drifting(steps), '[aggregator]\nname = "uniform"')
    federation.rounds(250 if steps == 2 else 70)
    assert abs(federation.model["x"][0]) == pytest.approx(limit, abs=1e-6)


def test_scaffold_does_not(tmp_path: Path) -> None:
    """Karimireddy et al. 2020: it converges to the optimum 0, the clients' controls to their gradients there."""
    federation = Federation(tmp_path, drifting(10), '[local]\nname = "scaffold"\n[aggregator]\nname = "uniform"')
    federation.rounds(150)
    assert abs(federation.model["x"][0]) < 1e-14
    controls = [load_file(federation.state(name))["scaffold.control/x"][0] for name in "ab"]
    assert controls == pytest.approx([1, -1], abs=1e-14)
    assert federation.shared["shared.control/x"][0] == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(("mu", "limit"), [(0.0, 0.5), (0.1, 0.52132701), (1.0, 0.64516129), (10.0, 0.84615385)])
def test_fedprox_with_exact_local_solutions(tmp_path: Path, mu: float, limit: float) -> None:
    """Li et al. 2020, curvatures 1 and 10, centres 0 and 1: the optimum is 0.90909091."""
    clients = {"a": Solving(1, 0, mu), "b": Solving(10, 1, mu)}
    job = f'[local]\nname = "fedprox"\nmu = {mu}\n[aggregator]\nname = "uniform"'
    federation = Federation(tmp_path, clients, job)
    federation.rounds(80)
    assert federation.model["x"][0] == pytest.approx(limit, abs=1e-8)


def test_feddyn_is_at_rest_at_the_optimum(tmp_path: Path) -> None:
    """Acar et al. 2021, theorem: each h_i converges to the gradient of the client's own loss at the optimum."""
    clients = {"a": Solving(1, 0, 2), "b": Solving(10, 1, 2)}
    part = "alpha = 2.0"
    job = (
        f'[local]\nname = "feddyn"\n{part}\n[aggregator]\nname = "uniform"\n[server_optimizer]\nname = "feddyn"\n{part}'
    )
    federation = Federation(tmp_path, clients, job)
    federation.rounds(100)
    optimum = 10 / 11
    assert federation.model["x"][0] == pytest.approx(optimum, abs=1e-12)
    gradients = [load_file(federation.state(name))["feddyn.gradient/x"][0] for name in "ab"]
    assert gradients == pytest.approx([optimum, 10 * (optimum - 1)], abs=1e-12)


class Regression(TorchLearner):
    """Least squares on points of its own."""

    def __init__(self, seed: int, examples: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(examples, 4, dtype=torch.float64, generator=generator).to(dtype)
        self.y = torch.randn(examples, dtype=torch.float64, generator=generator).to(dtype)

    def model(self) -> nn.Module:
        return nn.Linear(4, 1, bias=False, dtype=self.x.dtype)

    def dataset(self) -> Dataset[Any]:
        return TensorDataset(self.x, self.y)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(model(inputs).squeeze(1), targets)


ONE_STEP = '[train]\nlr = 0.1\nbatch_size = "all"\n'


def centrally(clients: Collection[Regression], start: np.ndarray, rounds: int) -> np.ndarray:
    """Gradient descent on all examples in one place, in float64."""
    x, y = (np.concatenate([getattr(each, name).double().numpy() for each in clients]) for name in "xy")
    weight: np.ndarray = start.astype(np.float64)[0]
    for _ in range(rounds):
        weight = weight - 0.1 * 2 / len(y) * x.T @ (x @ weight - y)
    return weight


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 4e-16), (torch.float32, 1e-6)])
def test_fedavg_with_one_full_step_is_gradient_descent(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    """McMahan et al. 2017, section 2: weighted by examples, it is that on all data. Values are of the order of 1."""
    clients = {name: Regression(seed, 5 * (seed + 1), dtype) for seed, name in enumerate("abc")}
    federation = Federation(tmp_path, clients, ONE_STEP)
    start = federation.model["weight"]
    federation.rounds(200)
    difference = np.abs(federation.model["weight"][0] - centrally(clients.values(), start, 200)).max()
    assert difference <= tolerance


def test_the_plain_mean_is_not(tmp_path: Path) -> None:
    clients = {name: Regression(seed, 5 * (seed + 1), torch.float64) for seed, name in enumerate("abc")}
    federation = Federation(tmp_path, clients, ONE_STEP + '[aggregator]\nname = "uniform"')
    start = federation.model["weight"]
    federation.rounds(50)
    assert np.abs(federation.model["weight"][0] - centrally(clients.values(), start, 50)).max() > 0.01

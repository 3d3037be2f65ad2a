"""FedAvg on scikit-learn's digits, ten clients, IID and with labels dealt out by Dirichlet(0.1)."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.science.learners import DigitsMlp
from fedelta.demo.shards import write_shards
from fedelta_server.simulation import simulate

CLIENTS, ROUNDS = 10, 50
ALPHAS = (None, 0.1)
SHOWN = (10, 20, 30, 50)

EXPECTED = {None: (0.950, 0.959, 0.965, 0.968), 0.1: (0.858, 0.907, 0.925, 0.940)}
"""Accuracy after the rounds `SHOWN`, computed independently with the same model, data and settings: means of three
seeds."""


@dataclass(frozen=True, kw_only=True)
class Deal:
    """A split of the data and a seed. `alpha`: of the Dirichlet distribution; None: IID."""

    alpha: float | None
    seed: int


def deals(seeds: range) -> Iterator[Deal]:
    """All of them."""
    for alpha in ALPHAS:
        for seed in seeds:
            yield Deal(alpha=alpha, seed=seed)


def compute(deal: Deal) -> tuple[float, ...]:
    """Simulates a job; returns the accuracy on all test data after each round."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder), CLIENTS, alpha=deal.alpha, seed=deal.seed)
        history = simulate(_job(deal), DigitsMlp, data=shards)
    return tuple(accuracy for _, accuracy in history.curve("accuracy"))


def _job(deal: Deal) -> dict[str, Any]:
    return {
        "job": {"name": "digits", "seed": deal.seed},
        "model": {"init": "first-client"},
        "rounds": {"max": ROUNDS},
        "train": {"epochs": 5, "batch_size": 16, "lr": 0.1},
    }

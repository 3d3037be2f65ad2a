"""FedAvg against FedProx on Synthetic(alpha, beta), with stragglers: figures 1 and 2 of Li et al. 2020."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.science.learners import Softmax
from benchmarks.science.stragglers import Stragglers
from benchmarks.science.synthetic import VARIANTS, Variant, draw
from fedelta_server.simulation import Occasion, simulate

SHARES = (0.0, 0.5, 0.9)
MU = 1.0
EPOCHS = 20

ON_TIME, LATE = 0.0, 10.0
"""Seconds on the simulation's clock; the deadline is between them."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One curve to compute."""

    variant: Variant
    share: float
    mu: float
    """0: FedAvg, which does not wait for stragglers."""
    rounds: int
    seed: int

    @property
    def algorithm(self) -> str:
        """Its name in tables."""
        return f"FedProx, mu = {self.mu:g}" if self.mu else "FedAvg"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What came of a run, after each round: mean loss of the training data, accuracy of the test data."""

    run: Run
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    def late_mean(self, values: tuple[float, ...]) -> float:
        """The mean of the last quarter of the rounds: single rounds jump."""
        late = values[-max(1, len(values) // 4) :]
        return sum(late) / len(late)


def runs(rounds: int, seed: int) -> Iterator[Run]:
    """All of them: on the same draw of data, the same devices straggle for both algorithms."""
    for variant, share, mu in itertools.product(VARIANTS, SHARES, (0.0, MU)):
        yield Run(variant=variant, share=share, mu=mu, rounds=rounds, seed=seed)


def compute(run: Run) -> Curve:
    """Simulates a run. Raises `RuntimeError` where it did not come to its end."""
    devices = {f"device-{number:02}": device for number, device in enumerate(draw(run.variant, run.seed))}
    stragglers = Stragglers(share=run.share, kept=run.mu > 0, seed=run.seed)

    def delay(occasion: Occasion) -> float:
        late = not stragglers.kept and stragglers.has(occasion.round, occasion.client)
        return LATE if late and occasion.phase == "train" else ON_TIME

    history = simulate(_job(run, stragglers), Softmax, data=devices, delays=delay)
    if len(history.rounds) < run.rounds:
        raise RuntimeError(f"{run}: ended in round {len(history.rounds)}: {history.reason}")
    return Curve(
        run=run,
        losses=tuple(value for _, value in history.curve("loss")),
        accuracies=tuple(value for _, value in history.curve("accuracy")),
    )


def _job(run: Run, stragglers: Stragglers) -> dict[str, Any]:
    return {
        "job": {"name": "fedprox", "seed": run.seed},
        "model": {"init": "first-client"},
        # A round in which all ten were late is drawn again.
        "rounds": {"max": run.rounds, "clients": 10, "deadline": "5s", "attempts": 1000},
        "local": {"name": "fedprox", "mu": run.mu} if run.mu else {"name": "plain"},
        "train": {
            "epochs": EPOCHS,
            "batch_size": 10,
            "lr": 0.01,
            "stragglers": stragglers.share,
            "keep_stragglers": stragglers.kept,
            "stragglers_seed": stragglers.seed,
        },
    }

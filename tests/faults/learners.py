"""The learner of the fault suite: each client and round has another update and another weight.

The updates of the first two clients nearly cancel each other, so that the sum keeps what float64 rounded away: a model
tells not only which updates are in it and with which weights, but also in which order they were added.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedelta import EvalResult, Learner, Task, TrainResult
from tests.faults import trainer_points
from tests.faults.orders import Points

NAMES = ("a", "b", "c", "d")
"""The clients."""

UNEVEN = "tests.faults.learners:Uneven"

_SHAPES = {"weight": (60, 50), "bias": (50,)}
_PULL = {"a": 1e9, "b": -1e9}


def weight(client: str, round_: int) -> int:
    """The examples that a client says it has."""
    return (7, 13, 29, 5)[NAMES.index(client)] + 2 * round_


class Uneven(Learner):
    """Has momentum, which is lost or kept with the update that it was made in."""

    def setup(self) -> None:
        folder = os.environ.get(trainer_points.VARIABLE)
        self._points = Points(Path(folder)) if folder else None
        if self._points is not None:
            trainer_points.install(self._points)

    def model(self) -> dict[str, Any]:
        return {name: np.random.normal(size=shape).astype(np.float32) for name, shape in _SHAPES.items()}

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:
        if self._points is not None:
            self._points.doing = f"{task.job}.{task.round}.{task.client}"
            self._points.note(trained=self._points.doing)
        self._reach("training begins")
        examples = weight(task.client, task.round)
        shared = np.random.default_rng(task.round)
        for name, shape in _SHAPES.items():
            pull = _PULL.get(task.client, 0.0) / examples * shared.normal(size=shape)
            step = self._memory(task) * self.velocity.get(name, np.float32(0.0)) + 0.1 * np.random.normal(size=shape)
            self.velocity[name] = step.astype(np.float32)
            model[name] += (pull + step).astype(np.float32)
            self._reach("in training")
        self._reach("training ends")
        return TrainResult(examples=examples, metrics={"weight": examples})

    def evaluate(self, model: dict[str, Any], task: Task) -> EvalResult:
        self._reach("evaluation")
        return EvalResult(examples=weight(task.client, task.round), metrics={"mean": float(model["bias"].mean())})

    def durable_state(self) -> Mapping[str, Any]:
        return self.velocity

    def load_durable_state(self, state: Mapping[str, Any]) -> None:
        self.velocity = dict(state)

    def _memory(self, task: Task) -> float:
        """In asynchronous rounds none: what it starts with depends on what of its own was folded by then."""
        return float(task.config.get("memory", 0.5))

    def _reach(self, point: str) -> None:
        if self._points is not None:
            self._points.reach(point)

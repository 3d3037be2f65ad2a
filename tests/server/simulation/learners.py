"""Learners for simulations, small enough to be checked by hand. Other processes import them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedelta import EvalResult, Learner, Task, TrainResult

Model = dict[str, Any]


class Toward(Learner):
    """Goes half of the way to the client's number, which is its data or stands in the file that is its data.

    [train.acts] says what else to do: "NAME/ROUND" = "stumble" and such.
    """

    data: Any = None
    setups: ClassVar[list[float]] = []
    """The numbers for which learners of this process were set up."""

    def setup(self) -> None:
        self.target = float(self.data.read_text() if isinstance(self.data, Path) else self.data)
        self.setups.append(self.target)

    def model(self) -> Model:
        return {"value": np.zeros(3)}

    def train(self, model: Model, task: Task) -> TrainResult:
        act = task.config.get("acts", {}).get(f"{task.client}/{task.round}")
        if act is not None:
            getattr(self, act)(model)
        model["value"] += 0.5 * (self.target - model["value"])
        return TrainResult(examples=task.config.get("examples", 1), metrics={"target": self.target})

    def evaluate(self, model: Model, task: Task) -> EvalResult:
        del task
        return EvalResult(examples=1, metrics={"value": float(model["value"][0])})

    def stumble(self, _model: Model) -> None:
        raise ValueError("the scanner is off")

    def diverge(self, model: Model) -> None:
        model["value"][1] = np.nan

    def leave(self, _model: Model) -> None:
        os._exit(3)

    def interrupt(self, _model: Model) -> None:
        raise KeyboardInterrupt


class Noisy(Toward):
    """Goes there and a random step further."""

    def train(self, model: Model, task: Task) -> TrainResult:
        model["value"] += np.random.normal(size=3)
        return super().train(model, task)


class Counting(Toward):
    """Goes one further with every update of it that counted."""

    stumbled = False

    def stumble_once(self, _model: Model) -> None:
        if not self.stumbled:
            self.stumbled = True
            raise ValueError("the scanner is off")

    def train(self, model: Model, task: Task) -> TrainResult:
        act = task.config.get("acts", {}).get(f"{task.client}/{task.round}")
        if act is not None:
            getattr(self, act)(model)
        self.count += 1
        model["value"] += self.count
        return TrainResult(examples=1)

    def durable_state(self) -> Mapping[str, Any]:
        return {"count": np.array([self.count])}

    def load_durable_state(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"][0]) if state else 0


def number(index: int, clients: int, seed: int) -> float:
    """Data as a function makes it."""
    return float(100 * seed + 10 * clients + index)

"""Learners without torch that do what the job's [train] table says; client processes load them as `learners:…`."""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedelta import EvalResult, Learner, Task, TrainResult

Model = dict[str, Any]


class Steps(Learner):
    """Goes part of the way from the model to the site's target, which moves on from round to round.

    [train.sites.NAME] has `target` and `examples`. [train.acts] says what else to do: "NAME/ROUND" = "hold" and such,
    or "NAME/evaluate/ROUND".
    """

    def model(self) -> Model:
        drawn = np.random.normal(size=(40, 25))
        return {"weight": drawn.astype(np.float32), "bias": np.full(25, 0.5, np.float32), "classes": np.arange(3)}

    def train(self, model: Model, task: Task) -> TrainResult:
        act = task.config.get("acts", {}).get(f"{task.client}/{task.round}")
        if act is not None:
            getattr(self, act)(model, task)
        site = task.config["sites"][task.client]
        for name in ("weight", "bias"):
            noise = task.config["noise"] * np.random.normal(size=model[name].shape)
            step = 0.25 * (site["target"] * task.round - model[name]) + noise
            model[name] += step.astype(np.float32)
        return TrainResult(examples=site["examples"], metrics={"target": site["target"]})

    def evaluate(self, model: Model, task: Task) -> EvalResult:
        act = task.config.get("acts", {}).get(f"{task.client}/evaluate/{task.round}")
        if act is not None:
            getattr(self, act)(model, task)
        site = task.config["sites"][task.client]
        distance = site["target"] * task.round - float(model["bias"].mean(dtype=np.float64))
        return EvalResult(examples=site["examples"] + 1, metrics={"distance": distance})

    def hold(self, _model: Model, task: Task) -> None:
        """Works until the file "go" is in the site's data."""
        print(f"{task.client} holds in round {task.round}")
        while not (self.data / "go").exists():
            task.report(0.5)
            time.sleep(0.01)

    def hang(self, _model: Model, _task: Task) -> None:
        while True:
            time.sleep(60)

    def diverge(self, model: Model, _task: Task) -> None:
        model["bias"][3] = np.nan

    def shout(self, model: Model, _task: Task) -> None:
        for name in ("weight", "bias"):
            model[name] += np.float32(1e6)

    def stumble(self, _model: Model, _task: Task) -> None:
        raise ValueError("the scanner is off")

    def leave(self, _model: Model, _task: Task) -> None:
        os._exit(3)

    def die(self, _model: Model, _task: Task) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Afresh(Steps):
    """Momentum that begins at zero for each assignment: adds half its last step and the site's target."""

    def train(self, model: Model, task: Task) -> TrainResult:
        act = task.config.get("acts", {}).get(f"{task.client}/{task.round}")
        if act is not None:
            getattr(self, act)(model, task)
        site = task.config["sites"][task.client]
        self.velocity = 0.5 * self.before() + np.full(25, site["target"], np.float32)
        model["bias"] += self.velocity
        return TrainResult(examples=site["examples"])

    def before(self) -> Any:
        return np.zeros(25, np.float32)


class Momentum(Afresh):
    """The same, from what the last step was."""

    def before(self) -> Any:
        return self.velocity

    def durable_state(self) -> Model:
        return {"velocity": self.velocity}

    def load_durable_state(self, state: Mapping[str, Any]) -> None:
        self.velocity = state.get("velocity", super().before())


class Judge(Steps):
    """Has an error for each of three classes as well."""

    def evaluate(self, model: Model, task: Task) -> EvalResult:
        found = super().evaluate(model, task)
        by_class = {f"error/{number}": number / 4 for number in range(3)}
        return EvalResult(examples=found.examples, metrics={**found.metrics, **by_class})


class Sized(Steps):
    """Its model has as many rows as the job says."""

    def model(self, *, rows: int = 40) -> Model:
        return {**super().model(), "weight": np.random.normal(size=(rows, 25)).astype(np.float32)}


class Wider(Steps):
    """Its model is not that of `Steps`."""

    def model(self) -> Model:
        return {**super().model(), "weight": np.zeros((40, 26), np.float32)}

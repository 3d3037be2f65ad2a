"""Learners without torch, which do what the job's [train] table says. Copied to where a test's client starts."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedelta import EvalResult, Learner, Task, TrainResult


class Scripted(Learner):
    """Adds `config["add"]` to every value, after whatever `config["do"]` asks for."""

    def model(self) -> dict[str, Any]:
        values = np.random.default_rng(7).normal(size=(300, 400))
        return {"w": values.astype(np.float32), "b": np.arange(4, dtype=np.float64), "n": np.arange(3)}

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:
        getattr(self, "do_" + task.config.get("do", "nothing"))(task)
        for name in ("w", "b"):
            model[name] += model[name].dtype.type(task.config.get("add", 0.0))
        return TrainResult(examples=task.config.get("examples", 5), metrics=self._facts())

    def evaluate(self, model: dict[str, Any], task: Task) -> EvalResult:
        return EvalResult(examples=9, metrics={"sum": float(model["b"].sum()), "round": task.round, **self._facts()})

    def _facts(self) -> dict[str, float]:
        return {
            "pid": os.getpid(),
            "grpc": "grpc" in sys.modules,
            "torch": "torch" in sys.modules,
            "threads": float(os.environ["OMP_NUM_THREADS"]),
        }

    def do_nothing(self, _task: Task) -> None:
        pass

    def do_print(self, task: Task) -> None:
        print("hello from", task.client, "with", self.data.name)

    def do_raise(self, _task: Task) -> None:
        raise ValueError("lr must be positive")

    def do_quit(self, _task: Task) -> None:
        sys.exit("enough")

    def do_exit(self, _task: Task) -> None:
        os._exit(3)

    def do_die(self, _task: Task) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_hang(self, task: Task) -> None:
        while True:
            task.report(0.5, loss=1.5, nothing=float("nan"))
            time.sleep(0.01)

    def do_sleep(self, _task: Task) -> None:
        """Neither reads nor writes, so it notices nothing."""
        print("asleep")
        while True:
            signal.pause()

    def do_fork_and_hang(self, task: Task) -> None:
        """A worker that inherits everything, as a DataLoader's does."""
        if os.fork() == 0:
            while True:
                signal.pause()
        self.do_hang(task)

    def do_wait(self, task: Task) -> None:
        """Works until the test has made the file "go"."""
        while not Path("go").exists():
            task.report(0.25)
            time.sleep(0.01)


class Deaf(Scripted):
    """Does not stop when it is asked to, nor does its worker."""

    def do_nothing(self, task: Task) -> None:
        if os.fork() == 0:
            while True:
                signal.pause()
        while True:
            with contextlib.suppress(BaseException):
                self.do_hang(task)


class Counting(Scripted):
    """Adds the number of its trainings so far, and keeps count."""

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:
        self.count += 1
        done = super().train(model, task)
        return TrainResult(examples=done.examples, metrics={**done.metrics, "count": self.count})

    def durable_state(self) -> dict[str, Any]:
        return {"count": np.array(self.count)}

    def load_durable_state(self, state: Mapping[str, Any]) -> None:
        self.count = int(state.get("count", 0))


class Unlike(Counting):
    """Never trains twice to the same end, and notes in a file each time it works."""

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:
        self._note("train")
        model["b"] += np.random.default_rng().normal()
        return super().train(model, task)

    def evaluate(self, model: dict[str, Any], task: Task) -> EvalResult:
        self._note("evaluate")
        return super().evaluate(model, task)

    def _note(self, what: str) -> None:
        with Path("worked").open("a") as file:
            print(what, file=file)


class Other(Scripted):
    """Its model is not the job's."""

    def model(self) -> dict[str, Any]:
        return {"w": np.zeros((300, 401), np.float32), "b": np.arange(4, dtype=np.float64), "n": np.arange(3)}


class CountingToo(Counting):
    """Keeps count on its own account."""


class Shaped(Scripted):
    """Its model has as many rows as it is told to."""

    def model(self, rows: int, *, fill: float = 0.0) -> dict[str, Any]:  # type: ignore[override]  # on purpose
        return {"w": np.full((rows, 2), fill, np.float32)}

    def train(self, model: dict[str, Any], task: Task) -> TrainResult:
        model["w"] += np.float32(task.config["add"])
        return TrainResult(examples=1, metrics={"rows": len(model["w"])})


class Numbers(Scripted):
    """Has a name of its own."""

    name = "numbers"


class MoreNumbers(Numbers):
    """Forgot to change it."""


class Slow(Scripted):
    """Takes forever to read its data."""

    def setup(self) -> None:
        print("reading")
        while True:
            signal.pause()


class NoData(Learner):
    """Cannot be set up."""

    def setup(self) -> None:
        raise FileNotFoundError(f"no train.csv in {self.data}")

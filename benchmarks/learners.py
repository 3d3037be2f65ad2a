"""Learners that do next to nothing, so that what is measured is everything around them."""

import os
import zlib

import numpy as np
import numpy.typing as npt

from fedelta import EvalResult, Learner, Task, TrainResult

ELEMENTS = "BENCH_ELEMENTS"
"""Environment variable: float32 elements of the model."""

Model = dict[str, npt.NDArray[np.float32]]


class AddConstant(Learner):
    """Returns the model plus a constant that differs by client and round."""

    def model(self) -> Model:
        return {"weight": np.zeros(int(os.environ[ELEMENTS]), np.float32)}

    def train(self, model: Model, task: Task) -> TrainResult:
        constant = np.float32(1e-3 * (1 + zlib.crc32(f"{task.client}/{task.round}".encode()) % 1000))
        np.add(model["weight"], constant, out=model["weight"])
        return TrainResult(examples=1 + zlib.crc32(task.client.encode()) % 100)

    def evaluate(self, model: Model, task: Task) -> EvalResult:
        del task
        return EvalResult(examples=1, metrics={"mean": float(model["weight"].mean())})

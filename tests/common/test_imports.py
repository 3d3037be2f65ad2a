"""What is imported when: each side starts without what only the other needs."""

import json
import subprocess
import sys

import pytest

import fedelta

HEAVY = ("torch", "grpc", "google.protobuf")

NUMPY_RUN = """
import sys, tempfile
from pathlib import Path
import numpy as np
import fedelta
from fedelta import EvalResult, Learner, Task, TrainResult
from fedelta.execution import Workbench

class Mean(Learner):
    def model(self):
        return {"mean": np.zeros(2, np.float32)}
    def train(self, model, task):
        model["mean"] = model["mean"] + np.float32(3)
        return TrainResult(examples=4)
    def evaluate(self, model, task):
        return EvalResult(examples=4, metrics={"mean": model["mean"].mean()})

with tempfile.TemporaryDirectory() as folder:
    base, out = Path(folder, "base"), Path(folder, "out")
    bench = Workbench(Mean())
    bench.initialize(Task(), base)
    bench.train(Task(seed=1), base, out)
    fedelta.load_state({"mean": np.zeros(2, np.float32)}, out)
    print(bench.evaluate(Task(), base).metrics)
"""


def loaded_after(code: str) -> tuple[str, set[str]]:
    """What the code prints in a fresh interpreter, and the heavy packages it has loaded then."""
    check = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{check}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    *printed, heavy = done.stdout.splitlines()
    return "\n".join(printed), set(json.loads(heavy))


@pytest.mark.parametrize(
    "module",
    [
        "fedelta",
        "fedelta.learner",
        "fedelta.execution",
        "fedelta.local",
        "fedelta.models",
        "fedelta.tensors",
        "fedelta.config",
        "fedelta.statistics",
    ],
)
def test_these_need_neither_torch_nor_grpc(module: str) -> None:
    assert loaded_after(f"import {module}") == ("", set())


def test_a_numpy_learner_runs_without_torch_and_grpc() -> None:
    assert loaded_after(NUMPY_RUN) == ("{'mean': 0.0}", set())


def test_every_public_name_is_there() -> None:
    for name in fedelta.__all__:
        assert getattr(fedelta, name) is not None
    assert set(fedelta.__all__) <= set(dir(fedelta))


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fedelta.nothing  # noqa: B018

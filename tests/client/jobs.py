"""The job that the tests' learners train: its files, computed without the code under test."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, DType, Schema, TensorSpec, update_schema
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from tests.client.fake import FakeCoordinator

SCHEMA = Schema.of(
    [
        TensorSpec("w", DType.F32, (300, 400)),
        TensorSpec("b", DType.F64, (4,)),
        TensorSpec("n", DType.I64, (3,)),
    ]
)
W = np.random.default_rng(7).normal(size=(300, 400)).astype(np.float32)
B = np.arange(4, dtype=np.float64)
N = np.arange(3)


def model_file(w: Any = W, b: Any = B) -> bytes:
    """Canonical order: by width of the type, then by name."""
    return bytes(SCHEMA.header(MODEL_METADATA) + b.tobytes() + N.tobytes() + w.tobytes())


def update_file(add: float) -> bytes:
    """What training must push: the difference as it comes out in each tensor's own type."""
    w, b = (W + np.float32(add)) - W, (B + add) - B
    return bytes(update_schema(SCHEMA).header(UPDATE_METADATA) + b.tobytes() + w.tobytes())


def train(fake: FakeCoordinator, *, learner: str = "", **config: Any) -> pb.Assignment:
    return fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), learner=learner, config_json=json.dumps(config))


def train_command(where: Path, config: str = "{}", model_arguments: str = "{}") -> say.Train:
    """What the runtime says to a trainer; the model file is `where / "model"`."""
    assigned = say.Assigned(
        job="job-1",
        round=1,
        client="site-1",
        seed=7,
        config=config,
        model_arguments=model_arguments,
        plan="",
        state=None,
    )
    return say.Train(
        assigned=assigned,
        model=str(where / "model"),
        out=str(where / "update"),
        shared=None,
        state_out=str(where / "state"),
    )

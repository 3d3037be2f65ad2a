"""What a plan has a client do: beside the model, it fetches, keeps and tells more than that."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from fedelta.tensors import MODEL_METADATA, STATE_METADATA, DType, Schema, TensorSpec
from fedelta.v1 import coordinator_pb2 as pb
from tests.client.fake import FakeCoordinator
from tests.client.jobs import N, W, model_file
from tests.client.process import started

SCAFFOLD = json.dumps({"local": {"name": "scaffold"}, "facts": ["steps"]})
PERSONAL = json.dumps({"personal": ["b"], "seed": 7})
X = Schema.of([TensorSpec("x", DType.F64, (2,))])
CONTROL = Schema.of([TensorSpec(name, DType.F64, (2,)) for name in ("optimizer.v/x", "shared.control/x")])
REST = Schema.of([TensorSpec("w", DType.F32, (300, 400)), TensorSpec("n", DType.I64, (3,))])


def drifting(folder: Path) -> str:
    shutil.copy(Path(__file__).with_name("drifting.py"), folder)
    return "drifting:Drifting"


def point() -> bytes:
    return bytes(X.header(MODEL_METADATA) + np.zeros(2).tobytes())


def control(value: float) -> bytes:
    """A state file; what server optimizers keep is in it, too."""
    values = np.array([[99.0, 99.0], [value, value]])
    return bytes(CONTROL.header(STATE_METADATA) + values.tobytes())


def rest() -> bytes:
    """The model of `learners:Scripted` without its `b`."""
    return bytes(REST.header(MODEL_METADATA) + N.tobytes() + W.tobytes())


async def step(fake: FakeCoordinator, gradient: float, **assigned: Any) -> tuple[list[float], list[float]]:
    """Has the client train; by how much it moved x, and its control."""
    config = json.dumps({"gradient": gradient})
    fake.assign(pb.ASSIGNMENT_KIND_TRAIN, point(), config_json=config, plan_json=SCAFFOLD, **assigned)
    header, update = await fake.update()
    assert dict(header.facts) == {"steps": 1}
    return load(update)["x"].tolist(), load(update)["shared.control/x"].tolist()


def test_a_control_counts_once_its_update_is_folded(tmp_path: Path) -> None:
    """SCAFFOLD with one step at a learning rate of 1: x goes by gradient + c - c_i, c_i becomes the gradient."""

    async def scenario() -> None:
        learner, shared = drifting(tmp_path), control(10)
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=learner) as client:
            await client.says("connected")  # importing torch takes its time
            fake.fates |= {"first": True, "second": False}
            assert await step(fake, 2.0, id="first", round=1) == ([-2, -2], [2, 2])
            assert fake.fetched_shared == []
            fake.cut_fetch_at = [100]
            assert await step(fake, 3.0, id="second", round=2, shared=shared) == ([-11, -11], [1, 1])
            # The last one was not folded, so c_i is still 2.
            assert await step(fake, 5.0, id="third", round=3, shared=shared) == ([-13, -13], [3, 3])
            assert fake.fetched_shared == [(0, 100), (100, len(shared) - 100)]
            assert [sent for _, sent in fake.fetched] == [len(point())]

    asyncio.run(scenario())


async def evaluated(fake: FakeCoordinator, **assigned: Any) -> float:
    """What the client's own `b` adds up to when it evaluates."""
    fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, rest(), plan_json=PERSONAL, **assigned)
    return float((await fake.next("ReportEvaluation")).metrics["sum"])


async def added(fake: FakeCoordinator, add: float, **assigned: Any) -> None:
    """Has the client train; only what is not personal leaves."""
    fake.assign(pb.ASSIGNMENT_KIND_TRAIN, rest(), plan_json=PERSONAL, config_json=json.dumps({"add": add}), **assigned)
    assert load((await fake.update())[1]).keys() == {"w"}


def test_a_personal_tensor_is_there_when_the_client_evaluates(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            assert await evaluated(fake, id="zero", round=0) == 6
            await added(fake, 1.0, id="first", round=1)
            fake.fates["first"] = True
            # Of the round in which it came about: an evaluation does not begin a job anew.
            assert await evaluated(fake, id="one", round=1) == 10
            await added(fake, 1.0, id="second", round=2)
            fake.fates["second"] = False
            assert await evaluated(fake, id="two", round=2) == 10

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ({"local": {"name": "scaffold"}}, "is no torch.nn.Module, so it would train without it"),
        ({"wishes": 3}, "is fedelta too old here?"),
    ],
)
def test_what_the_client_cannot_do_is_told(tmp_path: Path, plan: dict[str, Any], complaint: str) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), plan_json=json.dumps(plan))
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_LEARNER
            assert complaint in failure.message

    asyncio.run(scenario())

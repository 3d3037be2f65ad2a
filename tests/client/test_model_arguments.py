"""What a job's [model.arguments] do at a client."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from fedelta.tensors import MODEL_METADATA, DType, Schema, TensorSpec
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.config import TrainerSettings
from fedelta_client.trainer import Trainer
from tests.client.fake import FakeCoordinator
from tests.client.jobs import train_command
from tests.client.process import LEARNERS, started

SHAPED = "learners:Shaped"


def model_file(rows: int) -> bytes:
    schema = Schema.of([TensorSpec("w", DType.F32, (rows, 2))])
    return bytes(schema.header(MODEL_METADATA) + np.zeros((rows, 2), np.float32).tobytes())


def assign(fake: FakeCoordinator, kind: "pb.AssignmentKind.ValueType", model: bytes, **arguments: Any) -> None:
    fake.assign(kind, model, config_json='{"add": 2}', model_arguments_json=json.dumps(arguments))


def test_a_model_is_built_anew_where_a_job_has_other_arguments(tmp_path: Path) -> None:
    """By the same trainer; and the client starts although the model cannot be built without any."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=SHAPED) as client:
            await client.says("connected")
            trainer = client.trainer()
            for rows in (3, 5, 3):
                assign(fake, pb.ASSIGNMENT_KIND_INITIALIZE, b"", rows=rows, fill=1.5)
                _, initial = await fake.update()
                np.testing.assert_array_equal(load(initial)["w"], np.full((rows, 2), 1.5))
                assign(fake, pb.ASSIGNMENT_KIND_TRAIN, model_file(rows), rows=rows)
                _, update = await fake.update()
                np.testing.assert_array_equal(load(update)["w"], np.full((rows, 2), 2.0))
            assert client.trainers() == [trainer]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"row": 3}, "Shaped.model() takes no argument 'row'; did you mean 'rows'? It takes rows, fill"),
        ({}, "Shaped.model() needs the argument 'rows'; give it in [model.arguments] of the job file"),
    ],
)
def test_arguments_that_do_not_fit_fail_the_assignment_and_no_more(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=SHAPED):
            assign(fake, pb.ASSIGNMENT_KIND_TRAIN, model_file(3), **arguments)
            failure = await fake.next("ReportFailure")
            assert (failure.kind, failure.message) == (pb.FAILURE_KIND_LEARNER, message)
            assign(fake, pb.ASSIGNMENT_KIND_TRAIN, model_file(3), rows=3)
            assert (await fake.update())[0].metrics["rows"] == 3

    asyncio.run(scenario())


def test_the_runtime_hears_the_norm_of_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(LEARNERS, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_bytes(model_file(8))
    train = train_command(tmp_path, config='{"add": 0.5}', model_arguments='{"rows": 8}')

    async def scenario() -> None:
        trainer, _ = await Trainer.start(TrainerSettings(learner=SHAPED))
        try:
            trained = await trainer.do(train, lambda _: None)
            made = await trainer.do(say.Initialize(assigned=train.assigned, out=train.out), lambda _: None)
        finally:
            await trainer.close()
        assert isinstance(trained, say.Trained)
        assert isinstance(made, say.Initialized)
        assert (trained.file.norm, made.file.norm) == (2.0, 0.0)

    asyncio.run(scenario())

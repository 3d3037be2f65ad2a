"""Updates that cannot count, and streams that break the contract: what is wrong is named."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    DigestMismatchError,
    FedeltaError,
    NotFiniteError,
    PayloadError,
    SchemaMismatchError,
    WeightError,
)
from fedelta.tensors import UPDATE_METADATA
from fedelta.v1 import admin_pb2 as admin
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    Upload,
    assert_done,
    failure,
    job_toml,
    model_file,
    part_of,
    run,
    running,
    stream,
    tensor_file,
    training,
    update_file,
)

UPDATE = update_file(1.0)
HALF = len(UPDATE) // 2


def _with(**changed: Any) -> bytes:
    ones = {"weight": np.ones_like(WEIGHT), "bias": np.ones_like(BIAS)}
    tensors = {name: values for name, values in {**ones, **changed}.items() if values is not None}
    return tensor_file(UPDATE_METADATA, **tensors)


@pytest.mark.parametrize(
    ("data", "header", "expected", "words"),
    [
        (_with(bias=np.array([1, np.nan], np.float32)), {}, NotFiniteError, ["'bias'", "'site-1'"]),
        (_with(weight=np.full((3, 4), -np.inf, np.float32)), {}, NotFiniteError, ["'weight'"]),
        (_with(bias=np.ones(3, np.float32)), {}, SchemaMismatchError, ["'bias'", "F32[2]", "F32[3]"]),
        (_with(bias=None), {}, SchemaMismatchError, ["'bias'", "missing", "F32[2]"]),
        (_with(extra=np.ones(1, np.float32)), {}, SchemaMismatchError, ["'extra'", "not in the job's model"]),
        (model_file(), {}, SchemaMismatchError, ["canonical"]),
        (b"no tensors at all", {}, PayloadError, ["'site-1'"]),
        (UPDATE, {"examples": 0}, WeightError, ["0 examples"]),
        (UPDATE, {"examples": 2**63}, WeightError, [str(2**63)]),
        (UPDATE, {"length": 2**60}, PayloadError, [str(2**60), str(len(UPDATE)), "right learner"]),
    ],
)
def test_a_useless_update_is_rejected_for_good(
    tmp_path: Path, data: bytes, header: dict[str, int], expected: type[FedeltaError], words: list[str]
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, other = await system.joined("site-1"), await system.joined("site-2")
            job_id = await system.submit(job_toml("max = 1\nclients = 2"))
            assignment = (await client.work()).id
            error = await failure(client.push(assignment, data, **header))
            assert type(error) is expected
            assert [word for word in words if word not in error.message] == []
            assert isinstance(await failure(client.push(assignment, UPDATE)), AssignmentEndedError)
            await other.push((await other.work()).id, UPDATE)
            await assert_done(system, job_id)
            part = part_of(await system.job(job_id), "site-1")
            assert part.outcome == admin.OUTCOME_REJECTED
            assert part.reason in error.message
            assert list((tmp_path / "uploads").iterdir()) == []

    run(scenario)


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            long = Upload.begin(client, client.header(assignment, UPDATE), UPDATE)
            error = await failure(long.finish(b"more"))
            assert isinstance(error, DigestMismatchError)
            assert "longer than" in error.message
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


def test_an_upload_begins_with_its_header(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            header = client.header(assignment, UPDATE)
            streams: list[Iterable[Any]] = [[], [UPDATE], [UPDATE, header], [header, UPDATE[:HALF], header]]
            for messages in streams:
                error = await failure(client.push_raw(stream(messages)))
                assert isinstance(error, BadRequestError)
                assert "header" in error.message
            error = await failure(client.push(assignment, UPDATE, digest=b"short"))
            assert isinstance(error, BadRequestError)
            assert "32 bytes, got 5" in error.message
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)

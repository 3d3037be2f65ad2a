"""Plans of every kind over the wire: what admission wants of an update, and what stays on disk beside the model."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedelta.errors import AssignmentEndedError, NotFiniteError, PayloadError, SchemaMismatchError
from fedelta.tensors import UPDATE_METADATA
from fedelta.v1 import admin_pb2 as admin
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    Array,
    System,
    failure,
    job_toml,
    model_file,
    part_of,
    run,
    running,
    tensor_file,
)

SHARED = "shared.control"


def _plan(tables: str, rounds: str = "max = 1\nclients = 6") -> str:
    return f"{job_toml(rounds)}{tables}"


def _update(value: float, *, shared: bool = False, spoiled: str = "") -> bytes:
    """An update with the same value everywhere, and NaN in the first place of a tensor."""
    tensors: dict[str, Array] = {"weight": np.full_like(WEIGHT, value), "bias": np.full_like(BIAS, value)}
    if shared:
        tensors |= {f"{SHARED}/{name}": values.copy() for name, values in tensors.items()}
    if spoiled:
        tensors[spoiled].flat[0] = np.nan
    return tensor_file(UPDATE_METADATA, **tensors)


SCAFFOLD = '[local]\nname = "scaffold"\n'
FEDNOVA = '[aggregator]\nname = "fednova"\n'
ADAM = '[server_optimizer]\nname = "adam"\n'
MOMENTUM = '[server_optimizer]\nname = "sgd"\nmomentum = 0.5\n'


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ["'steps'", "aggregator 'fednova'", "too old"]),
        ({"loss": 1.0}, ["'steps'", "aggregator 'fednova'"]),
        ({"steps": float("nan")}, ["'steps'", "nan", "aggregator 'fednova'"]),
        ({"steps": float("inf")}, ["'steps'", "inf"]),
        ({"steps": 0.0}, ["'steps'", "0", "must train"]),
        ({"steps": -3.0}, ["'steps'", "-3"]),
        ({"steps": 1e300}, ["'steps'", "1e+300"]),
    ],
)
def test_an_update_without_what_the_plan_computes_with_is_refused(
    tmp_path: Path, facts: dict[str, float], words: list[str]
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(_plan(FEDNOVA, "max = 1\nclients = 1\nattempts = 1"))
            assignment = (await client.work()).id
            error = await failure(client.push(assignment, _update(1.0), facts=facts))
            assert type(error) is PayloadError
            assert [word for word in ["site-1", *words] if word not in error.message] == []
            again = await failure(client.push(assignment, _update(1.0), facts={"steps": 5.0}))
            assert isinstance(again, AssignmentEndedError)
            await system.watch(job_id, until="round_failed")

    run(scenario)


def test_facts_that_nobody_asked_for_are_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(_plan(FEDNOVA, "max = 1\nclients = 1"))
            facts = {"steps": 5.0, "loss": float("nan"), "secret": 1.0}
            await client.push((await client.work()).id, _update(1.0), facts=facts)
            await system.watch(job_id)
            manifest = system.coordinator.files.manifest_path(job_id, 1).read_text()
            assert '"facts":{"steps":5.0}' in manifest

    run(scenario)


@pytest.mark.parametrize(
    ("tables", "data", "words"),
    [
        (SCAFFOLD, _update(1.0), [f"'{SHARED}/", "missing"]),
        ("", _update(1.0, shared=True), [f"'{SHARED}/", "not in the job's model"]),
    ],
)
def test_shared_tensors_come_with_plans_that_share(tmp_path: Path, tables: str, data: bytes, words: list[str]) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            await system.submit(_plan(tables, "max = 1\nclients = 1\nattempts = 1"))
            error = await failure(client.push((await client.work()).id, data))
            assert type(error) is SchemaMismatchError
            assert [word for word in words if word not in error.message] == []

    run(scenario)


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ("", "weight"),
        (SCAFFOLD, "weight"),
        (SCAFFOLD, f"{SHARED}/bias"),
        (FEDNOVA, "bias"),
        (ADAM, "weight"),
        (MOMENTUM, "weight"),
        ('[aggregator]\nname = "median"\n', "bias"),
        ('[aggregator]\nname = "krum"\nbyzantine = 1\n', "bias"),
        ('[aggregator]\nname = "geometric-median"\n', "weight"),
        ('[aggregator]\nname = "q-fedavg"\nlr = 0.1\n', "weight"),
    ],
)
def test_one_nan_client_never_reaches_the_model(tmp_path: Path, tables: str, where: str) -> None:
    shared = tables == SCAFFOLD

    async def scenario() -> None:
        async with running(tmp_path) as system:
            job_id, clients = await _training(system, tables)
            bad, *good = clients
            facts = {"steps": 5.0, "loss": 0.5}
            spoiled = _update(1.0, shared=shared, spoiled=where)
            error = await failure(bad[0].push(bad[1], spoiled, facts=facts))
            assert type(error) is NotFiniteError
            assert repr(where) in error.message
            for client, assignment in good:
                await client.push(assignment, _update(1.0, shared=shared), facts=facts)
            await system.watch(job_id)
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_FINISHED, job.reason
            assert part_of(job, bad[0].name).outcome == admin.OUTCOME_REJECTED
            _, model = await system.download(job_id)
            values = np.frombuffer(model[-56:], np.float32)
            assert np.isfinite(values).all()
            assert (values != np.frombuffer(model_file()[-56:], np.float32)).all()

    run(scenario)


async def _training(system: System, tables: str) -> tuple[str, list[tuple[Any, str]]]:
    """Six clients with an assignment each."""
    clients = [await system.joined(f"site-{k}") for k in range(6)]
    job_id = await system.submit(_plan(tables))
    return job_id, [(client, (await client.work()).id) for client in clients]


def _moved(rounds: int) -> float:
    """How far momentum 0.5 takes a model whose updates are all 1: the sum of 1, 1.5, 1.75, ..."""
    return sum(2.0 - 0.5**number for number in range(rounds))


def test_a_job_goes_on_with_the_state_of_its_parts_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(_plan(MOMENTUM, "max = 4\nclients = 1"))
            for _ in range(2):
                await client.push((await client.work()).id, _update(1.0))
            await client.work()  # of round 3: version 2 is made
            await system.settle()
            assert _states(tmp_path, job_id) == [2]
        # What a kill leaves of a version that was never committed, and of a job that is not known.
        (tmp_path / "states" / job_id / "3.safetensors").write_bytes(b"half")
        (tmp_path / "states" / "other").mkdir()
        (tmp_path / "states" / "other" / "1.safetensors").write_bytes(b"orphan")
        async with running(tmp_path) as system:
            assert _states(tmp_path, job_id) == [2]
            assert _states(tmp_path, "other") == []
            client = await system.joined("site-1")
            for _ in range(2):
                await client.push((await client.work()).id, _update(1.0))
            await system.watch(job_id)
            _, model = await system.download(job_id)
            assert model == model_file(WEIGHT + np.float32(_moved(4)), BIAS + np.float32(_moved(4)))
            await system.settle()
            assert _states(tmp_path, job_id) == [4]

    run(scenario)


def test_what_is_shared_moves_by_who_took_part_of_all_who_could(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = {name: await system.joined(name) for name in ("site-1", "site-2")}
            job_id = await system.submit(_plan(SCAFFOLD, "max = 1\nclients = 1"))
            asked = [asyncio.ensure_future(client.work()) for client in clients.values()]
            (drawn,), others = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assignment = drawn.result().id
            await clients[assignment.rpartition(".")[2]].push(assignment, _update(1.0, shared=True))
            await system.watch(job_id)
            for other in others:
                other.cancel()
            values = np.frombuffer((tmp_path / "states" / job_id / "1.safetensors").read_bytes()[-56:], np.float32)
            # One of two clients, whose control changed by 1.
            assert (values == 0.5).all()

    run(scenario)


def _states(state: Path, job: str) -> list[int]:
    return sorted(int(path.stem) for path in (state / "states" / job).glob("*"))

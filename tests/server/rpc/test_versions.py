"""Versions by name, jobs that start from another job's version, and jobs that are extended."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedelta.config import EvaluateConfig
from fedelta.errors import BadRequestError, ConfigError, NotFoundError, WrongStateError
from fedelta.v1 import admin_pb2 as admin
from fedelta_server.best import best_version
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    Client,
    System,
    digest_of,
    failure,
    job_toml,
    model_file,
    run,
    running,
    update_file,
)


@pytest.mark.parametrize(
    ("evaluate", "measured", "best"),
    [
        (
            EvaluateConfig(),
            [{"accuracy": 0.5, "loss": 1}, {"accuracy": 0.7, "loss": 2}, {"accuracy": 0.6, "loss": 3}],
            2,
        ),
        (EvaluateConfig(), [{"loss": 3.0}, {"loss": 1.0}, {"loss": 2.0}], 2),
        (EvaluateConfig(), [{}, {"accuracy": 0.7}, {"accuracy": 0.7}], 2),
        (EvaluateConfig(metric="auc"), [{"auc": 0.1, "accuracy": 1}, {"auc": 0.2, "accuracy": 0}], 2),
        (EvaluateConfig(metric="accuracy", goal="min"), [{"accuracy": 0.1}, {"accuracy": 0.2}], 1),
        (EvaluateConfig(metric="error", goal="min"), [{"error": 2.0}, {"error": 1.0}, {"error": 1.0}], 2),
        (EvaluateConfig(metric="central/auc"), [{"auc": 0.1, "central/auc": 1}, {"auc": 0.2, "central/auc": 0}], 1),
        (EvaluateConfig(), [{"loss": 1.0, "central/accuracy": 0.1}, {"loss": 2.0, "central/accuracy": 0.2}], 1),
        (EvaluateConfig(), [{"central/loss": 2.0}, {"central/loss": 1.0}], 2),
        (EvaluateConfig(metric="auc"), [{"accuracy": 0.9}], None),
        (EvaluateConfig(), [{"auc": 0.9}], None),
        (EvaluateConfig(), [], None),
    ],
)
def test_the_best_version(evaluate: EvaluateConfig, measured: list[dict[str, float]], best: int | None) -> None:
    assert best_version(evaluate, dict(enumerate(measured, 1))) == best


async def finished(system: System) -> tuple[Client, str]:
    """A job of three rounds, of which the second was best."""
    client = await system.joined("site-1")
    job_id = await system.submit(job_toml("max = 3\nclients = 1", evaluate=1))
    await client.finish(0.5, 0.9, 0.7)
    await system.watch(job_id)
    return client, job_id


def model_plus(rounds: int) -> bytes:
    return model_file(WEIGHT + np.float32(rounds), BIAS + np.float32(rounds))


def test_a_model_is_downloaded_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            _, job_id = await finished(system)
            assert (await system.job(job_id)).best_version == 2
            for name, version in (("best", 2), ("latest", 3), ("", 3)):
                header, data = await system.download(job_id, version_name=name)
                assert (header.version, data) == (version, model_plus(version))
            error = await failure(system.download(job_id, version_name="newest"))
            assert isinstance(error, BadRequestError)
            assert "best, latest" in error.message

    run(scenario)


def test_a_job_that_was_not_evaluated_has_no_best_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 1\nclients = 1", evaluate=0))
            await client.finish(0.0)
            await system.watch(job_id)
            assert not (await system.job(job_id)).HasField("best_version")
            error = await failure(system.download(job_id, version_name="best"))
            assert isinstance(error, NotFoundError)
            assert "none of its versions was evaluated" in error.message
            other = await system.submit(
                job_toml("max = 1\nclients = 1", evaluate=1).replace("every", 'metric="auc"\nevery')
            )
            await client.finish(0.5)
            await system.watch(other)
            error = await failure(system.download(other, version_name="best"))
            assert "report accuracy, but not auc" in error.message

    run(scenario)


async def submit_from(system: System, init: str) -> str:
    request = admin.SubmitJobRequest(toml=job_toml(init=init))
    return str((await system.operator.SubmitJob(request)).job_id)


@pytest.mark.parametrize(("version", "number"), [("best", 2), ("latest", 3), ("1", 1), ("0", 0)])
def test_a_job_starts_from_another_jobs_version(tmp_path: Path, version: str, number: int) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, job_id = await finished(system)
            second = await submit_from(system, f"job:{job_id}@{version}")
            found = await system.job(second)
            assert (found.origin, found.initial_digest) == (f"{job_id}@{number}", digest_of(model_plus(number)))
            await client.finish(0.0)
            await system.watch(second)
            assert (await system.download(second))[1] == model_plus(number + 1)
        async with running(tmp_path) as system:
            assert (await system.job(second)).origin == f"{job_id}@{number}"

    run(scenario)


def test_a_job_cannot_start_from_what_there_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            _, job_id = await finished(system)
            for init, words in (
                (f"job:{job_id}@4", "it has 0 to 3"),
                ("job:nope-1@latest", "no job 'nope-1'"),
            ):
                error = await failure(submit_from(system, init))
                assert isinstance(error, NotFoundError)
                assert words in error.message
                assert init in error.message
            waiting = await submit_from(system, "first-client")
            error = await failure(submit_from(system, f"job:{waiting}@best"))
            assert "no model yet" in error.message
            assert isinstance(await failure(submit_from(system, "job:digits-1")), ConfigError)

    run(scenario)


def extend(system: System, job_id: str, rounds_max: int) -> Any:
    return system.operator.ExtendJob(admin.ExtendJobRequest(job_id=job_id, rounds_max=rounds_max))


def test_a_finished_job_is_extended_and_both_old_and_new_watches_tell_it_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, job_id = await finished(system)
            before = await system.watch(job_id)
            await extend(system, job_id, 4)
            assert (await system.job(job_id)).state == admin.JOB_STATE_RUNNING
            watch = asyncio.ensure_future(system.watch(job_id, after=before[-1].sequence))
            work = await client.work()
            assert (work.round, work.rounds_max) == (4, 4)
            await client.push(work.id, update_file(1.0))
            await client.evaluated((await client.work()).id, accuracy=0.95)
            told = await watch
            assert (told[0].extended.rounds_max, told[1].state_changed.state) == (4, admin.JOB_STATE_RUNNING)
            assert told[-1].state_changed.state == admin.JOB_STATE_FINISHED
            assert await system.watch(job_id) == before + told
            assert (await system.job(job_id)).best_version == 4

    run(scenario)


def test_an_extension_outlives_the_process_and_the_rounds_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, job_id = await finished(system)
            await extend(system, job_id, 5)
            await client.push((await client.work()).id, update_file(1.0))
            await system.watch(
                job_id, until="round_closed", after=(await system.watch(job_id, until="extended"))[-1].sequence
            )
        async with running(tmp_path) as system:
            job = await system.job(job_id)
            assert (job.rounds_done, job.rounds_max, job.state) == (4, 5, admin.JOB_STATE_RUNNING)

    run(scenario)


def test_what_cannot_be_extended_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            job_id = await system.submit()
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id))
            error = await failure(extend(system, job_id, 9))
            assert isinstance(error, WrongStateError)
            assert f"job:{job_id}@latest" in error.message
            assert isinstance(await failure(extend(system, "nope", 9)), NotFoundError)
            other = await system.submit()
            assert isinstance(await failure(extend(system, other, 0)), ConfigError)

    run(scenario)

"""Evaluations as operators see them: beside the rounds, central ones apart, and those that are asked for."""

import asyncio
from pathlib import Path

import pytest

from fedelta.errors import BadRequestError, NotFoundError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from tests.server.rpc.harness import Client, System, failure, job_toml, run, running, update_file

TRAIN, EVALUATE = pb.ASSIGNMENT_KIND_TRAIN, pb.ASSIGNMENT_KIND_EVALUATE


async def central(system: System, name: str = "central") -> Client:
    """A client that evaluates only."""
    found = system.client(name)
    await found.register(evaluates_only=True)
    return found


async def trained(client: Client, round_: int) -> None:
    """The client adds 1 to every value."""
    work = await client.work()
    assert (work.kind, work.round) == (TRAIN, round_)
    await client.push(work.id, update_file(1.0))


async def evaluated(client: Client, version: int, accuracy: float) -> None:
    work = await client.work()
    assert (work.kind, work.round, work.model.version) == (EVALUATE, version, version)
    await client.evaluated(work.id, accuracy=accuracy)


async def ask(system: System, job_id: str, *versions: int) -> admin.EvaluateJobResponse:
    request = admin.EvaluateJobRequest(job_id=job_id, versions=versions)
    response: admin.EvaluateJobResponse = await system.operator.EvaluateJob(request)
    return response


def kinds(events: list[admin.JobEvent], *wanted: str) -> list[str | None]:
    return [kind for event in events if (kind := event.WhichOneof("event")) in wanted]


def test_a_round_is_closed_before_its_version_is_evaluated_and_has_the_metrics_afterwards(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            judge = await central(system)
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 2\nclients = 1", evaluate=1))
            told: list[admin.JobEvent] = []
            for round_ in (1, 2):
                await trained(client, round_)
                told += await system.watch(job_id, "round_closed", after=told[-1].sequence if told else 0)
            job = await system.job(job_id)
            assert (job.rounds_done, job.state) == (2, admin.JOB_STATE_RUNNING)
            assert [dict(each.metrics) for each in job.rounds] == [{}, {}]
            assert all(each.update_norm > 0 for each in job.rounds)
            for version in (1, 2):
                await evaluated(judge, version, 0.5 + version / 8)
                await evaluated(client, version, 0.25 + version / 8)
            events = await system.watch(job_id)
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_FINISHED
            assert [dict(each.metrics) for each in job.rounds] == [{"accuracy": 0.375}, {"accuracy": 0.5}]
            assert kinds(events, "round_closed", "evaluation_closed") == [
                "round_closed",
                "round_closed",
                "evaluation_closed",
                "evaluation_closed",
            ]
            assert events[-1].state_changed.state == admin.JOB_STATE_FINISHED

    run(scenario)


def test_what_a_central_evaluation_gives_is_apart_and_may_decide_which_version_is_best(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            judge = await central(system)
            first, second = await system.joined("site-1"), await system.joined("site-2")
            toml = job_toml("max = 2\nclients = 2", evaluate=1).replace("every", 'metric = "central/accuracy"\nevery')
            job_id = await system.submit(toml)
            for round_, accuracy in ((1, 0.75), (2, 0.5)):
                await asyncio.gather(trained(first, round_), trained(second, round_))
                await evaluated(judge, round_, accuracy)
            for version in (1, 2):
                await evaluated(first, version, 0.0)
                await evaluated(second, version, version / 2)
            await system.watch(job_id)
            job = await system.job(job_id)
            assert job.best_version == 1
            assert [dict(each.central) for each in job.evaluations] == [{"accuracy": 0.75}, {"accuracy": 0.5}]
            assert [dict(each.metrics) for each in job.evaluations] == [{"accuracy": 0.25}, {"accuracy": 0.5}]
            assert job.evaluations[1].spread["accuracy"] == admin.Spread(min=0.0, median=0.5, p90=1.0, max=1.0)
            parts = [(each.client, each.central) for each in job.evaluations[0].clients]
            assert parts == [("central", True), ("site-1", False), ("site-2", False)]

    run(scenario)


def test_versions_of_a_finished_job_are_evaluated_again_on_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 2\nclients = 1", evaluate=1))
            await trained(client, 1)
            await trained(client, 2)
            await evaluated(client, 1, 0.25)
            await evaluated(client, 2, 0.5)
            before = await system.watch(job_id)
            assert (await system.job(job_id)).best_version == 2
            other = await system.joined("site-2")
            asked = await ask(system, job_id, 0, 1)
            assert list(asked.versions) == [0, 1]
            assert asked.after_sequence == before[-1].sequence
            watch = asyncio.ensure_future(system.watch(job_id, after=asked.after_sequence))
            for version in (0, 1):
                await evaluated(client, version, 1.0 - version / 4)
                await evaluated(other, version, 0.75 - version / 4)
            after = await watch
            closed = [each.evaluation_closed.evaluation for each in after if each.HasField("evaluation_closed")]
            assert [(each.version, each.metrics["accuracy"]) for each in closed] == [(0, 0.875), (1, 0.625)]
            job = await system.job(job_id)
            assert [(each.version, each.metrics["accuracy"]) for each in job.evaluations] == [
                (0, 0.875),
                (1, 0.625),
                (2, 0.5),
            ]
            assert (job.best_version, job.state) == (0, admin.JOB_STATE_FINISHED)
            assert [each.client for each in job.evaluations[1].clients] == ["site-1", "site-2"]
            assert await system.watch(job_id) == before + after

    run(scenario)


def test_what_cannot_be_evaluated_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 1\nclients = 1"))
            error = await failure(ask(system, job_id, 7))
            assert isinstance(error, NotFoundError)
            assert "no version 7" in error.message
            assert isinstance(await failure(ask(system, "nope-1")), NotFoundError)

    run(scenario)


def test_the_name_of_the_central_evaluator_is_kept_for_clients_that_evaluate_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            error = await failure(system.client("central").register())
            assert isinstance(error, BadRequestError)
            assert "give this one another --name" in error.message
            await central(system)
            clients = (await system.operator.ListClients(admin.ListClientsRequest())).clients
            assert [(each.name, each.evaluates_only) for each in clients] == [("central", True)]

    run(scenario)


@pytest.mark.parametrize("init", ["m.safetensors", "first-client"])
def test_a_job_waits_for_clients_that_train(tmp_path: Path, init: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            judge = await central(system)
            job_id = await system.submit(job_toml("max = 1\nclients = 1", evaluate=1, init=init))
            assert not (await judge.poll(wait=0)).HasField("assignment")
            assert "0 ready" in (await system.job(job_id)).waiting_for

    run(scenario)

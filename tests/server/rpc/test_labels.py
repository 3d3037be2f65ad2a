"""What clients say of themselves, and jobs that they decline."""

from pathlib import Path
from typing import Any

import pytest

from fedelta.errors import BadRequestError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from tests.server.rpc.harness import System, failure, job_toml, run, running, seconds, update_file


async def listed(system: System, name: str) -> admin.Client:
    clients = (await system.operator.ListClients(admin.ListClientsRequest())).clients
    found: admin.Client = next(client for client in clients if client.name == name)
    return found


def decline(client: Any, assignment: str, message: str, **retry: Any) -> Any:
    request = pb.ReportFailureRequest(
        session_id=client.session,
        assignment_id=assignment,
        kind=pb.FAILURE_KIND_DECLINED,
        message=message,
        **retry,
    )
    return client.stub.ReportFailure(request)


def test_a_job_finds_the_clients_with_its_labels(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            north, south = system.client("north"), system.client("south")
            await north.register(labels={"site": "north", "gpu": ""})
            await south.register(labels={"site": "south"})
            toml = job_toml("max = 1\nclients = 1").replace("[model]", 'labels = ["gpu", "site=north"]\n[model]')
            job_id = await system.submit(toml)
            assert (await north.work()).job_id == job_id
            assert not (await south.poll(wait=0)).HasField("assignment")
            assert dict((await listed(system, "north")).labels) == {"site": "north", "gpu": ""}
            other = await system.submit(toml.replace("site=north", "site=west"))
            assert (await system.job(other)).waiting_for == "1 client with gpu, site=west; 0 ready"

    run(scenario)


@pytest.mark.parametrize(
    "labels",
    [
        {"": "north"},
        {"a=b": ""},
        {"site": "two words"},
        {"site": "a=b"},
        {"site": "\x1b[2J"},
        {"site": "x" * 201},
        {"-gpu": ""},
        {f"label-{number}": "" for number in range(65)},
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: dict[str, str]) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            error = await failure(system.client("site-1").register(labels=labels))
            assert isinstance(error, BadRequestError)
            assert "label" in error.message

    run(scenario)


def test_a_site_that_declines_is_left_alone_until_it_registers_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, other = await system.joined("site-1"), await system.joined("site-2")
            job_id = await system.submit(job_toml("max = 1\nclients = 2\nmin_clients = 1\nattempts = 1"))
            await decline(client, (await client.work()).id, "not without the ethics board")
            await decline(other, (await other.work()).id, "")
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_RUNNING
            assert job.waiting_for == (
                "1 client; 0 ready; site-1 declined: not without the ethics board; site-2 declined: no reason given"
            )
            assert dict((await listed(system, "site-1")).declined) == {job_id: "not without the ethics board"}
            waiting = (await client.poll(wait=0)).waiting_for
            assert waiting == f"job {job_id} waits for 1 client; 0 ready", "reasons are the operator's"
            await client.register()
            await client.push((await client.work()).id, update_file(1.0))
            events = await system.watch(job_id)
            parts = [
                event.participation_ended.participation for event in events if event.HasField("participation_ended")
            ]
            assert [part.outcome for part in parts].count(admin.OUTCOME_DECLINED) == 2
            assert (await system.job(job_id)).state == admin.JOB_STATE_FINISHED
            assert dict((await listed(system, "site-2")).declined) == {}, "the job has ended"

    run(scenario)


def test_a_site_is_asked_again_at_the_time_it_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            await system.submit(job_toml("max = 1\nclients = 1"))
            first = await client.work()
            await decline(client, first.id, "not yet", retry_after=seconds(1.0))
            again = await client.work()
            assert (again.job_id, again.id != first.id) == (first.job_id, True)

    run(scenario)


def test_an_assignment_says_how_the_model_is_built_and_how_many_rounds_there_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            toml = job_toml("max = 7\nclients = 1").replace("[rounds]", "[model.arguments]\nhidden = 64\n[rounds]")
            await system.submit(toml)
            work = await client.work()
            assert (work.model_arguments_json, work.rounds_max) == ('{"hidden": 64}', 7)

    run(scenario)

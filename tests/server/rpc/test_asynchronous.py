"""Asynchronous rounds where clients call: what they fetch and push, what they hear, and what stays on the disk."""

import math
from pathlib import Path

import pytest

from fedelta.errors import AssignmentEndedError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_server.engine import events
from fedelta_server.retention import Keep
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    Client,
    System,
    Upload,
    failure,
    job_toml,
    model_file,
    run,
    running,
    update_file,
)

HALF = 100
PAIR = "max = 4\nclients = 2\nmin_clients = 2\nbuffer = 1"


def updates(state: Path) -> list[str]:
    """The update files that there are, by round, attempt and client, and uploads."""
    folder = state / "updates"
    kept = [f"{path.parent.name}/{path.stem}" for path in folder.rglob("*.safetensors")]
    return sorted([*kept, *(path.name.rpartition(".train.")[0] for path in (state / "uploads").iterdir())])


async def pair(system: System, rounds: str = PAIR) -> tuple[Client, Client, str]:
    """A job with a client that is quick and one that is slow."""
    quick, slow = await system.joined("quick"), await system.joined("slow")
    return quick, slow, await system.submit(job_toml(rounds))


async def go(client: Client, add: float = 1.0) -> pb.Assignment:
    """The client does its next training."""
    work = await client.work()
    await client.push(work.id, update_file(add))
    return work


def test_a_stale_update_is_admitted_against_the_version_that_its_client_had(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            quick, slow, job_id = await pair(system)
            first = await slow.work()
            for _ in range(3):
                await go(quick)
                await system.settle()
            # The version that it works from is served on, whatever became of the job meanwhile.
            header, model = await slow.fetch(first.id)
            assert (header.model.version, model) == (0, model_file())
            await slow.push(first.id, update_file(2.0))
            assert (await slow.push(first.id, update_file(2.0))).already_accepted
            await system.watch(job_id)
            job = await system.job(job_id)
            assert [(part.client, part.staleness) for part in job.rounds[3].clients] == [("slow", 3), ("quick", 0)]
            # Three fresh ones, and one that counts for half: 1 / sqrt(1 + 3).
            add = 3 + 2.0 / math.sqrt(4)
            assert (await system.download(job_id))[1] == model_file(WEIGHT + add, BIAS + add)

    run(scenario)


def test_who_fell_too_far_behind_hears_it_and_nothing_of_it_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            quick, slow, _ = await pair(system, f"{PAIR}\nmax_staleness = 1")
            first = await slow.work()
            data = update_file(2.0)
            upload = Upload.begin(slow, slow.header(first.id, data), data[:HALF])
            while (await slow.held(first.id, data)).bytes_held < HALF:
                pass
            for _ in range(2):
                await go(quick)
            answer = await slow.renew(first.id)
            assert answer.directive == pb.DIRECTIVE_CANCEL
            assert "its update would be 2 versions behind; rounds.max_staleness = 1" in answer.reason
            upload.messages.put_nowait(data[HALF : HALF + 1])  # and no more: it is not asked for the rest
            assert isinstance(await failure(upload.call), AssignmentEndedError)
            await system.settle()
            assert updates(tmp_path) == []
            again = await slow.work()
            assert (again.round, again.model.version) == (3, 2)
            assert again.seed != first.seed

    run(scenario)


@pytest.mark.parametrize(
    ("kept", "needed"),
    [
        (0, []),
        (1, ["1.1/slow"]),
        (3, ["1.1/slow", "2.1/quick", "3.1/quick"]),
        (4, ["1.1/quick", "1.1/slow", "2.1/quick", "3.1/quick"]),
    ],
)
def test_update_files_are_kept_as_long_as_versions_are_to_be_recomputed(
    tmp_path: Path, kept: int, needed: list[str]
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(updates=kept)) as system:
            quick, slow, job_id = await pair(system)
            first = await slow.work()
            for _ in range(3):
                await go(quick)
                await system.settle()
            await slow.push(first.id, update_file(2.0))
            await system.watch(job_id)
            await system.settle()
        # The last version has an update of round 1, so that round stays as long as the version can be recomputed.
        assert set(updates(tmp_path)) >= set(needed)
        assert kept or not updates(tmp_path)
        async with running(tmp_path, keep=Keep(updates=kept)):
            assert set(updates(tmp_path)) >= set(needed)
            assert {name.partition("/")[0] for name in updates(tmp_path)} == {name[:3] for name in needed}

    run(scenario)


def test_a_version_that_a_slow_client_works_from_is_not_pruned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(versions=1)) as system:
            quick, slow, job_id = await pair(system)
            await go(slow)
            late = await slow.work()
            for _ in range(2):
                await go(quick)
                await system.settle()
            wanted = events.PruneRequested(at=system.coordinator.now(), job=job_id, versions=(1, 2))
            await system.coordinator.dispatch(wanted)
            assert (await slow.fetch(late.id))[1] == model_file(WEIGHT + 1, BIAS + 1)
            await slow.push(late.id, update_file(0.0))
            await system.watch(job_id)
            await system.settle()
            assert (await system.job(job_id)).state == admin.JOB_STATE_FINISHED
            assert len(list((tmp_path / "models").iterdir())) == 2, "the initial one and the newest"

    run(scenario)

"""Old versions and updates go as the operator says; nothing that anything needs goes, even if the process is killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fedelta.errors import NotFoundError, StorageError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import events
from fedelta_server.retention import Keep
from fedelta_server.store._fs import FileSystem
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

LAST_TWO = Keep(versions=2)
EVERY_SECOND = Keep(versions=1, every=2)


def model_plus(rounds: int) -> bytes:
    return model_file(WEIGHT + rounds, BIAS + rounds)


async def run_rounds(system: System, client: Client, *accuracies: float) -> str:
    """A job of one client that adds 1 in each round; version n is the initial model plus n."""
    every = 1 if accuracies[0] else 0
    job_id = await system.submit(job_toml(f"max = {len(accuracies)}\nclients = 1", evaluate=every))
    await client.finish(*accuracies)
    await system.watch(job_id)
    return job_id


def stored(state: Path) -> list[int]:
    """The versions whose files are there."""
    names = {path.stem for path in (state / "models").iterdir()}
    found = [number for number in range(10) if digest_of(model_plus(number)).hex() in names]
    assert len(found) == len(names)
    return found


@pytest.mark.parametrize(
    ("keep", "accuracies", "kept"),
    [
        (Keep(), [0.0] * 5, [0, 1, 2, 3, 4, 5]),
        (LAST_TWO, [0.0] * 5, [0, 4, 5]),
        (EVERY_SECOND, [0.0] * 5, [0, 2, 4, 5]),
        (LAST_TWO, [0.2, 0.9, 0.3, 0.4, 0.5], [0, 2, 4, 5]),
        (Keep(versions=9), [0.0] * 3, [0, 1, 2, 3]),
    ],
)
def test_versions_are_kept_as_the_operator_says(
    tmp_path: Path, keep: Keep, accuracies: Sequence[float], kept: list[int]
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=keep) as system:
            job_id = await run_rounds(system, await system.joined("a"), *accuracies)
            await system.settle()
            assert stored(tmp_path) == kept
            for version in kept:
                assert (await system.download(job_id, version=version))[1] == model_plus(version)

    run(scenario)


def test_who_asks_for_a_pruned_version_hears_which_there_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=EVERY_SECOND) as system:
            job_id = await run_rounds(system, await system.joined("a"), *[0.0] * 5)
            await system.settle()
            error = await failure(system.download(job_id, version=3))
            assert isinstance(error, NotFoundError)
            assert "version 3 of job 'digits-1' was pruned: the coordinator keeps 0, 2 and 4 to 5" in error.message
            submitted = system.operator.SubmitJob(admin.SubmitJobRequest(toml=job_toml(init=f"job:{job_id}@3")))
            assert "was pruned" in (await failure(submitted)).message

    run(scenario)


def test_a_version_that_another_job_started_from_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("a")
            job_id = await run_rounds(system, client, *[0.0] * 4)
            second = await system.operator.SubmitJob(admin.SubmitJobRequest(toml=job_toml(init=f"job:{job_id}@2")))
        async with running(tmp_path, keep=Keep(versions=1)) as system:
            await system.settle()
            assert stored(tmp_path) == [0, 2, 4]
            assert (await system.download(job_id, version=2))[1] == model_plus(2)
            client = await system.joined("a")
            assert (await client.fetch((await client.work()).id))[1] == model_plus(2)
            assert (await system.job(second.job_id)).origin == f"{job_id}@2"

    run(scenario)


def test_what_an_open_round_works_with_cannot_be_pruned(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("a")
            job_id = await system.submit(job_toml("max = 3\nclients = 1"))
            await client.push((await client.work()).id, update_file(1.0))
            await client.work()
            wanted = events.PruneRequested(at=system.coordinator.now(), job=job_id, versions=(0, 1, 2, 7))
            assert (await system.coordinator.dispatch(wanted)).records == []

    run(scenario)


def test_a_file_that_two_versions_share_stays_for_the_one_that_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(versions=1)) as system:
            client = await system.joined("a")
            job_id = await system.submit(job_toml("max = 3\nclients = 1"))
            for add in (1.0, 0.0, 0.0):
                await client.push((await client.work()).id, update_file(add))
            await system.watch(job_id)
            await system.settle()
            assert stored(tmp_path) == [0, 1]
            assert (await system.download(job_id, version=3))[1] == model_plus(1)

    run(scenario)


def test_killed_between_the_record_and_the_removal_it_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        with monkeypatch.context() as killed:
            killed.setattr(Coordinator, "_drop_models", lambda *_: None)
            async with running(tmp_path, keep=LAST_TWO) as system:
                job_id = await run_rounds(system, await system.joined("a"), *[0.0] * 4)
                await system.settle()
        assert stored(tmp_path) == [0, 1, 2, 3, 4]
        async with running(tmp_path) as system:
            await system.settle()
            assert stored(tmp_path) == [0, 3, 4]
            assert "pruned" in (await failure(system.download(job_id, version=1))).message

    run(scenario)


def test_killed_while_a_file_is_removed_the_rest_of_it_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        return

    async def scenario() -> None:
        with monkeypatch.context() as killed:
            killed.setattr(Coordinator, "_remove", never)
            async with running(tmp_path, keep=LAST_TWO) as system:
                await run_rounds(system, await system.joined("a"), *[0.0] * 3)
                await system.settle()
        assert len(list((tmp_path / "temp").iterdir())) == 1
        async with running(tmp_path):
            assert list((tmp_path / "temp").iterdir()) == []

    run(scenario)


def test_a_disk_that_fails_delays_the_removal_to_the_next_start(tmp_path: Path) -> None:
    class Stubborn(FileSystem):
        def rename(self, source: Path, target: Path) -> None:
            if target.suffix == ".gone":
                raise StorageError(f"{target}: no")
            super().rename(source, target)

    async def scenario() -> None:
        async with running(tmp_path, Stubborn(), LAST_TWO) as system:
            await run_rounds(system, await system.joined("a"), *[0.0] * 3)
            await system.settle()
        assert stored(tmp_path) == [0, 1, 2, 3]
        async with running(tmp_path) as system:
            await system.settle()
            assert stored(tmp_path) == [0, 2, 3]

    run(scenario)


def updates_of(state: Path, job_id: str) -> list[str]:
    return sorted(str(path.relative_to(state / "updates" / job_id)) for path in state.glob(f"updates/{job_id}/*/*"))


def test_updates_of_the_last_rounds_are_kept_across_restarts(tmp_path: Path) -> None:
    kept = ["2.1/a.safetensors", "3.1/a.safetensors"]

    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(updates=2)) as system:
            job_id = await run_rounds(system, await system.joined("a"), *[0.0] * 3)
            await system.settle()
            assert updates_of(tmp_path, job_id) == kept
        async with running(tmp_path, keep=Keep(updates=2)):
            assert updates_of(tmp_path, job_id) == kept
        async with running(tmp_path, keep=Keep(updates=1)):
            assert updates_of(tmp_path, job_id) == kept[1:]
        async with running(tmp_path):
            assert updates_of(tmp_path, job_id) == []

    run(scenario)


def test_updates_of_an_attempt_that_failed_are_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(updates=5)) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2\nmin_updates = 2"))
            await a.push((await a.work()).id, update_file(1.0))
            await b.failed((await b.work()).id, pb.FAILURE_KIND_LEARNER, "no")
            for client in (a, b):
                await client.push((await client.work()).id, update_file(1.0))
            await system.watch(job_id)
            await system.settle()
            assert updates_of(tmp_path, job_id) == ["1.2/a.safetensors", "1.2/b.safetensors"]

    run(scenario)

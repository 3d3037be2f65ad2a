"""What is acknowledged survives failures of the disk, of the fold and of the process."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedelta.errors import StorageError, UnknownSessionError
from fedelta.v1 import admin_pb2 as admin
from fedelta_server import coordinator
from fedelta_server.engine.words import JobState
from tests.server.rpc.harness import (
    System,
    assert_done,
    failure,
    job_toml,
    run,
    running,
    training,
    update_file,
)

UPDATE = update_file(1.0)


@pytest.fixture(autouse=True)
def _resumes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "RESUME_SECONDS", 0)


def test_a_commit_that_fails_is_not_acknowledged_and_the_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            _fail_next_commit(system, monkeypatch)
            assert isinstance(await failure(client.push(assignment, UPDATE)), StorageError)
            assert isinstance(await failure(client.push(assignment, UPDATE)), UnknownSessionError)
            await client.register()
            assert not (await client.held(assignment, UPDATE)).accepted
            assert (await client.work()).id == assignment
            response = await client.push(assignment, UPDATE)
            assert not response.already_accepted
            await assert_done(system, job_id)

    run(scenario)


def test_what_was_decided_while_a_commit_failed_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the failure and the new engine the old one goes on deciding on what it wrongly believes."""

    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            journal = system.coordinator.journal
            committed, loop, pauses = journal.committed, asyncio.get_running_loop(), []

            async def pause() -> None:
                call = system.operator.PauseJob(admin.PauseJobRequest(job_id=job_id))
                pauses.append(asyncio.ensure_future(failure(call)))
                while system.coordinator.engine.book.job(job_id).state is not JobState.PAUSED:
                    await asyncio.sleep(0)

            def committed_late() -> Any:
                found = list(committed())
                asyncio.run_coroutine_threadsafe(pause(), loop).result(10)
                return found

            monkeypatch.setattr(journal, "committed", committed_late)
            _fail_next_commit(system, monkeypatch)
            assert isinstance(await failure(client.push(assignment, UPDATE)), StorageError)
            assert isinstance(await pauses[0], StorageError)
            await client.register()
            assert (await system.job(job_id)).state == admin.JOB_STATE_RUNNING
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


def test_who_watches_a_job_does_not_hear_of_a_commit_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            journal, loop, watching = system.coordinator.journal, asyncio.get_running_loop(), []
            insert = journal._insert

            async def watch() -> None:
                watching.append(asyncio.ensure_future(system.watch(job_id, until="round_closed")))
                while journal._queue.empty():
                    await asyncio.sleep(0)

            def fail_while_somebody_looks(_: Any) -> StorageError:
                monkeypatch.setattr(journal, "_insert", insert)
                asyncio.run_coroutine_threadsafe(watch(), loop).result(10)
                return StorageError("the journal could not be written: disk full")

            monkeypatch.setattr(journal, "_insert", fail_while_somebody_looks)
            assert isinstance(await failure(client.push(assignment, UPDATE)), StorageError)
            await client.register()
            await client.push(assignment, UPDATE)
            told = [event.WhichOneof("event") for event in await watching[0]]
            assert told.count("participation_ended") == 1

    run(scenario)


def test_a_restarted_coordinator_asks_for_no_update_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 2\nclients = 2"))
            for client in (a, b):
                await client.push((await client.work()).id, UPDATE)
            await system.watch(job_id, until="round_closed")
            second = await a.work()
            await a.push(second.id, update_file(4.0), examples=1)
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            assert not (await a.poll(wait=0)).HasField("assignment")
            assert (await a.held(second.id, update_file(4.0))).accepted
            assert (await a.push(second.id, update_file(4.0), examples=1)).already_accepted
            await b.push((await b.work()).id, update_file(8.0), examples=3)
            mean = (1 * 4.0 + 3 * 8.0) / 4
            await assert_done(system, job_id, 1.0 + mean)
            assert [closed.number for closed in (await system.job(job_id)).rounds] == [1, 2]
            await system.settle()
            assert list((tmp_path / "updates" / job_id).iterdir()) == []

    run(scenario)


def test_a_coordinator_that_died_before_the_fold_folds_after_its_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fold_never(*_: Any) -> None:
        return

    async def scenario() -> None:
        monkeypatch.setattr(coordinator.Coordinator, "_fold", fold_never)
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            await client.push(assignment, UPDATE)
        monkeypatch.undo()
        async with running(tmp_path) as system:
            await assert_done(system, job_id)

    run(scenario)


def test_a_fold_that_fails_pauses_the_job_and_loses_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            monkeypatch.setattr(coordinator, "make_version", fail)
            await client.push(assignment, UPDATE)
            events = await system.watch(job_id, until="participation_ended")
            paused = (await system.watch(job_id, until="state_changed", after=events[-1].sequence))[-1].state_changed
            assert paused.state == admin.JOB_STATE_PAUSED
            assert "round 1 could not be aggregated: MemoryError" in paused.reason
            monkeypatch.undo()
            await system.operator.ResumeJob(admin.ResumeJobRequest(job_id=job_id))
            await assert_done(system, job_id)

    run(scenario)


def test_the_order_of_arrival_changes_no_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    adds = {name: float(rng.standard_normal()) for name in "abc"}

    async def digest(state: Path, order: str) -> bytes:
        async with running(state) as system:
            clients = {name: await system.joined(name) for name in "abc"}
            job_id = await system.submit(job_toml("max = 1\nclients = 3"))
            for name in order:
                await clients[name].push((await clients[name].work()).id, update_file(adds[name]))
            await system.watch(job_id)
            return bytes((await system.job(job_id)).rounds[0].digest)

    async def scenario() -> None:
        found = set()
        for order in ("abc", "cab", "bca"):
            state = tmp_path / order
            state.mkdir()
            found.add(await digest(state, order))
        assert len(found) == 1

    run(scenario)


def _fail_next_commit(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = system.coordinator.journal
    insert = journal._insert

    def fail_once(batch: Any) -> StorageError | None:
        if not batch:
            return insert(batch)
        monkeypatch.setattr(journal, "_insert", insert)
        return StorageError("the journal could not be written: disk full")

    monkeypatch.setattr(journal, "_insert", fail_once)

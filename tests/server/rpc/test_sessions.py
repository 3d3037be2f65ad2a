"""Register, NextAssignment, RenewAssignment, ReportEvaluation, ReportFailure, Leave."""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    FedeltaError,
    NameInUseError,
    ProtocolMismatchError,
    StorageError,
    UnknownSessionError,
)
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    failure,
    job_toml,
    model_file,
    part_of,
    run,
    running,
    update_file,
)


@pytest.mark.parametrize(
    ("changed", "expected", "words"),
    [
        ({"client_name": ""}, BadRequestError, "client name"),
        ({"client_name": ".hidden"}, BadRequestError, "client name"),
        ({"client_name": "a/b"}, BadRequestError, "'a/b'"),
        ({"client_name": "a" * 65}, BadRequestError, "1 to 64"),
        ({"client_name": "site-1\n"}, BadRequestError, "client name"),
        ({"session_id": "short"}, BadRequestError, "16 characters"),
        ({"learners": []}, BadRequestError, "at least one learner"),
        ({"protocol_min": 2, "protocol_max": 3}, ProtocolMismatchError, "upgrade the coordinator"),
        ({"protocol_min": 0, "protocol_max": 0}, ProtocolMismatchError, "upgrade the client"),
    ],
)
def test_register_refuses(tmp_path: Path, changed: dict[str, Any], expected: type[FedeltaError], words: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            error = await failure(system.client("site-1").register(**changed))
            assert type(error) is expected
            assert words in error.message
            assert await system.states() == {}

    run(scenario)


def test_register_takes_the_newest_common_protocol(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            response = await system.client("site-1").register(protocol_min=1, protocol_max=9)
            assert response.protocol == 1
            assert response.liveness.seconds == 15

    run(scenario)


def test_fields_of_a_newer_client_are_ignored(tmp_path: Path) -> None:
    field_999_with_7 = b"\xb8\x3e\x07"

    async def scenario() -> None:
        async with running(tmp_path) as system:
            register: Any = system.channel().unary_unary(
                "/fedelta.v1.CoordinatorService/Register",
                response_deserializer=pb.RegisterResponse.FromString,
            )
            request = pb.RegisterRequest(
                client_name="newer", session_id="0123456789abcdef", protocol_min=1, protocol_max=2, learners=["x"]
            )
            assert pb.RegisterRequest.FromString(field_999_with_7).ByteSize() == 3
            response = await register(request.SerializeToString() + field_999_with_7)
            assert response.protocol == 1
            assert await system.states() == {"newer": admin.CLIENT_STATE_IDLE}

    run(scenario)


def test_a_name_belongs_to_one_live_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            first = await system.joined("site-1")
            second = system.client("site-1", session="another-session-id")
            error = await failure(second.register())
            assert isinstance(error, NameInUseError)
            assert "'site-1'" in error.message
            await first.register(learners=["x", "y"])
            listed = await system.operator.ListClients(admin.ListClientsRequest())
            assert list(listed.clients[0].learners) == ["x", "y"]

    run(scenario)


def test_a_client_that_left_frees_its_name_and_its_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            first = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 1\nclients = 1\nattempts = 1"))
            await first.work()
            await first.stub.Leave(pb.LeaveRequest(session_id=first.session))
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_PAUSED
            assert "the client left" in job.reason
            assert isinstance(await failure(first.poll()), UnknownSessionError)
            await system.client("site-1", session="another-session-id").register()

    run(scenario)


def test_a_client_whose_connection_breaks_while_it_waits_frees_its_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            first = await system.joined("site-1")
            poll = asyncio.ensure_future(_forget_failure(first.poll()))
            await _polls(system.coordinator.engine, "site-1", 1)
            await first.channel.close()
            await poll
            await _polls(system.coordinator.engine, "site-1", 0)
            assert await system.states() == {"site-1": admin.CLIENT_STATE_GONE}
            await system.client("site-1", session="another-session-id").register()

    run(scenario)


def test_a_poll_that_breaks_before_it_is_on_record_does_not_keep_the_client_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            await system.joined("site-1")
            begun = asyncio.Event()
            settle = system.coordinator._settle

            async def settle_never(_: Any) -> None:
                begun.set()
                await asyncio.get_running_loop().create_future()

            monkeypatch.setattr(system.coordinator, "_settle", settle_never)
            poll = asyncio.ensure_future(system.coordinator.next_assignment("session-of-  site-1", 60, ()))
            await begun.wait()
            poll.cancel()
            await asyncio.wait([poll])
            monkeypatch.setattr(system.coordinator, "_settle", settle)
            assert system.coordinator.engine.clients.of_name("site-1").polls == 0

    run(scenario)


def test_a_poll_is_answered_as_soon_as_there_is_work(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            poll = asyncio.ensure_future(_response(client.poll(wait=60)))
            await _polls(system.coordinator.engine, "site-1", 1)
            job_id = await system.submit()
            assignment = (await poll).assignment
            assert (assignment.job_id, assignment.job_name, assignment.round) == (job_id, "digits", 1)
            assert assignment.kind == pb.ASSIGNMENT_KIND_TRAIN
            assert assignment.learner == "test:Learner"
            assert assignment.config_json == '{"epochs": 2}'
            assert assignment.lease.seconds == 60
            assert 0 < assignment.time_left.seconds <= 3600
            assert (assignment.model.version, assignment.model.length) == (0, len(model_file()))

    run(scenario)


def test_a_poll_without_work_says_what_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            assert "no job" in (await client.poll(wait=0)).waiting_for
            await system.submit(job_toml("max = 1\nclients = 3"))
            response = await client.poll(wait=0.01)
            assert not response.HasField("assignment")
            assert response.waiting_for == "job digits-1 waits for 3 clients; 1 ready"
            assert response.retry_after.ToNanoseconds() == 0

    run(scenario)


def test_work_is_handed_out_again_until_the_client_says_it_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            await system.submit()
            first = await client.work()
            again = await client.work()
            assert (again.id, again.seed) == (first.id, first.seed)
            response = await client.poll(wait=0, running=[first.id])
            assert not response.HasField("assignment")

    run(scenario)


def test_a_client_hears_what_became_of_its_updates(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 2\nclients = 2"))
            first = (await a.work()).id
            await a.push(first, update_file(1.0))
            asked = [first, "of-another-time"]
            assert settled(await a.poll(wait=0, unsettled=asked)) == {"of-another-time": False}
            await b.push((await b.work()).id, update_file(1.0))
            response = await a.poll(unsettled=asked)
            assert (response.assignment.round, settled(response)) == (2, {first: True, "of-another-time": False})
            second = response.assignment.id
        async with running(tmp_path) as system:
            a = await system.joined("a")
            response = await a.poll(unsettled=[first, second])
            assert (response.assignment.id, settled(response)) == (second, {first: True})
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id))
            assert settled(await a.poll(wait=0, unsettled=[first, second])) == {first: True, second: False}
            assert settled(await a.poll(wait=0)) == {}

    run(scenario)


def test_a_fate_that_could_not_be_committed_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise StorageError("the journal could not be written: the disk is full")

    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            monkeypatch.setattr(system.coordinator, "settled", fail)
            assert isinstance(await failure(client.poll(wait=0, unsettled=["a"])), StorageError)

    run(scenario)


def settled(response: pb.NextAssignmentResponse) -> dict[str, bool]:
    return {each.assignment_id: each.folded for each in response.settled}


def test_draining_answers_all_polls(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = [await system.joined(f"site-{i}") for i in range(5)]
            polls = [asyncio.ensure_future(_response(client.poll(wait=60))) for client in clients]
            for client in clients:
                await _polls(system.coordinator.engine, client.name, 1)
            await system.coordinator.drain()
            responses = await asyncio.gather(*polls)
            assert all(not response.HasField("assignment") for response in responses)
            assert {response.retry_after.seconds for response in responses} == {1}

    run(scenario)


def test_an_unknown_session_has_to_register(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            stranger = system.client("stranger")
            for call in (
                stranger.poll(),
                stranger.renew("a"),
                stranger.evaluated("a"),
                stranger.failed("a", pb.FAILURE_KIND_CLIENT, ""),
                stranger.fetch("a"),
                stranger.push("a", b"x"),
                stranger.held("a", b"x"),
                stranger.stub.Leave(pb.LeaveRequest(session_id=stranger.session)),
            ):
                assert isinstance(await failure(call), UnknownSessionError)

    run(scenario)


def test_renewing_says_to_go_on_and_then_to_stop_and_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml('max = 1\nclients = 1\nlease = "90s"'))
            assignment = await client.work()
            response = await client.renew(assignment.id, fraction=0.25)
            assert (response.directive, response.lease.seconds) == (pb.DIRECTIVE_CONTINUE, 90)
            listed = (await system.operator.ListClients(admin.ListClientsRequest())).clients[0]
            assert (listed.progress, list(listed.assignment_ids)) == (0.25, [assignment.id])
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id))
            response = await client.renew(assignment.id)
            assert response.directive == pb.DIRECTIVE_CANCEL
            assert "the job was stopped" in response.reason

    run(scenario)


def test_evaluations_are_averaged_by_examples(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2", evaluate=1))
            for client in (a, b):
                await client.push((await client.work()).id, update_file(1.0))
            assignments = [await a.work(), await b.work()]
            assert {each.kind for each in assignments} == {pb.ASSIGNMENT_KIND_EVALUATE}
            _, model = await a.fetch(assignments[0].id)
            assert model == model_file(WEIGHT + np.float32(1), BIAS + np.float32(1))
            await a.evaluated(assignments[0].id, examples=1, accuracy=0.5)
            await b.evaluated(assignments[1].id, examples=3, accuracy=0.9)
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_FINISHED
            assert job.rounds[0].metrics["accuracy"] == pytest.approx((0.5 + 3 * 0.9) / 4)

    run(scenario)


@pytest.mark.parametrize(
    ("examples", "took", "metrics"),
    [
        (0, 1.0, {}),
        (1, math.nan, {}),
        (1, math.inf, {}),
        (1, -1.0, {}),
        (1, 1.0, {"loss": math.nan}),
        (1, 1.0, {"loss": -math.inf}),
        (1, 1.0, {"loss": 1.7e308}),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(
    tmp_path: Path, examples: int, took: float, metrics: dict[str, float]
) -> None:
    """What is not finite would be null in the journal, and could not be read back."""

    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            await system.submit(job_toml(evaluate=1))
            training = await client.work()
            if examples:
                refused = client.push(training.id, update_file(1), train_seconds=took, metrics=metrics)
                assert isinstance(await failure(refused), BadRequestError)
            await client.push(training.id, update_file(1))
            request = pb.ReportEvaluationRequest(
                session_id=client.session,
                assignment_id=(await client.work()).id,
                examples=examples,
                metrics=metrics,
                evaluate_seconds=took,
            )
            assert isinstance(await failure(client.stub.ReportEvaluation(request)), BadRequestError)
        async with running(tmp_path) as system:
            assert (await system.job("digits-1")).state == admin.JOB_STATE_RUNNING

    run(scenario)


def test_a_result_of_another_kind_of_assignment_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            await system.submit(job_toml(evaluate=1))
            training = await client.work()
            assert "train" in (await failure(client.evaluated(training.id))).message
            await client.push(training.id, update_file(1.0))
            evaluating = await client.work()
            assert "takes no update" in (await failure(client.push(evaluating.id, update_file(1.0)))).message

    run(scenario)


def test_a_failure_is_on_record_and_the_round_goes_on_without_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2"))
            broken = await a.work()
            await a.failed(broken.id, pb.FAILURE_KIND_LEARNER, "x" * 5000)
            await b.push((await b.work()).id, update_file(2.0))
            await system.watch(job_id)
            job = await system.job(job_id)
            assert part_of(job, "a").outcome == admin.OUTCOME_FAILED
            assert part_of(job, "a").reason == "x" * 2000
            assert part_of(job, "b").outcome == admin.OUTCOME_ACCEPTED
            assert isinstance(await failure(a.push(broken.id, update_file(1.0))), AssignmentEndedError)

    run(scenario)


def test_an_assignment_handed_back_is_no_failure_of_the_learner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2"))
            await a.failed((await a.work()).id, pb.FAILURE_KIND_RETURNED, "shutting down")
            await b.push((await b.work()).id, update_file(2.0))
            await system.watch(job_id)
            assert part_of(await system.job(job_id), "a").outcome == admin.OUTCOME_RETURNED

    run(scenario)


def test_a_short_lease_runs_out_on_time(tmp_path: Path) -> None:
    """It is shorter than the time for which an assignment waits to be fetched."""

    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml('max = 1\nclients = 1\nattempts = 1\nlease = "1s"'))
            await client.work()
            # Not by a call: any call would make the coordinator look at its clock.
            async with asyncio.timeout(5):
                await system.coordinator.news().wait()
            events = await system.watch(job_id, until="participation_ended")
            part = events[-1].participation_ended.participation
            assert (part.outcome, part.reason) == (admin.OUTCOME_LOST, "the client fell silent")

    run(scenario)


async def _response(call: Any) -> Any:
    return await call


async def _forget_failure(call: Any) -> None:
    """Closing a channel cancels the call that waits on it."""
    try:
        await call
    except (FedeltaError, asyncio.CancelledError):
        return


async def _polls(engine: Any, name: str, count: int) -> None:
    while engine.clients.of_name(name).polls != count:
        await asyncio.sleep(0)

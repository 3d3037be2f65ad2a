"""What a client does that has a policy: what it declines and when, and what it keeps to."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client.policy._hours import DAYS
from tests.client.fake import FakeCoordinator
from tests.client.jobs import model_file, train, update_file
from tests.client.process import ClientProcess, started

LENGTH = len(update_file(0.5))


@asynccontextmanager
async def site(
    where: Path, policy: str, *options: str, learner: str = "learners:Scripted"
) -> AsyncIterator[tuple[FakeCoordinator, ClientProcess]]:
    """A client with that policy, and its coordinator."""
    (where / "policy.toml").write_text(policy)
    async with (
        FakeCoordinator() as fake,
        started(fake.address, where, "--policy", "policy.toml", *options, learner=learner) as client,
    ):
        yield fake, client


async def declined(fake: FakeCoordinator) -> tuple[str, timedelta | None]:
    """Why the client declines, and when it is to be asked again."""
    failure = await fake.next("ReportFailure")
    assert failure.kind == pb.FAILURE_KIND_DECLINED
    return failure.message, failure.retry_after.ToTimedelta() if failure.HasField("retry_after") else None


def test_a_job_is_declined_before_anything_is_fetched_and_the_next_is_done(tmp_path: Path) -> None:
    policy = '[jobs]\nnames = ["digits-*"]\n[train.add]\nmax = 1\n[train.do]\n'

    async def scenario() -> None:
        async with site(tmp_path, policy) as (fake, client):
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_name="faces")
            assert await declined(fake) == ("the site's policy: jobs.names does not list 'faces'", None)
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_name="digits-1", config_json='{"add": 2}')
            assert await declined(fake) == ("the site's policy: train.add = 2, where it wants at most 1", None)
            assert fake.fetched == []
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_name="digits-1", config_json='{"add": 0.5}')
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert await client.says("declined: the site's policy: jobs.names does not list 'faces'")

    asyncio.run(scenario())


def test_outside_of_its_hours_a_site_says_when_to_ask_again(tmp_path: Path) -> None:
    in_three_days = DAYS[(datetime.now().astimezone().weekday() + 3) % 7]

    async def scenario() -> None:
        async with site(tmp_path, f'[[hours]]\ndays = ["{in_three_days}"]') as (fake, _):
            train(fake)
            reason, retry_after = await declined(fake)
            assert reason == "the site's policy: it is outside of the policy's hours"
            assert retry_after is not None
            assert timedelta(days=1) < retry_after <= timedelta(days=3, seconds=1)

    asyncio.run(scenario())


def test_a_day_has_so_many_bytes_also_after_a_restart(tmp_path: Path) -> None:
    policy = f"[limits]\nupload_bytes_per_day = {2 * LENGTH}"

    async def scenario() -> None:
        async with site(tmp_path, policy) as (fake, _):
            train(fake)
            await fake.update()
            train(fake)
            await day_is_full(fake)
        async with site(tmp_path, policy) as (fake, _):
            train(fake)
            await day_is_full(fake)

    asyncio.run(scenario())


async def day_is_full(fake: FakeCoordinator) -> None:
    reason, retry_after = await declined(fake)
    assert "what is left of limits.upload_bytes_per_day" in reason
    assert retry_after is not None
    assert timedelta(0) < retry_after <= timedelta(days=1, seconds=1)


def test_a_job_has_so_many_rounds_and_is_evaluated_after_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, "[limits]\nrounds_per_job = 1") as (fake, _):
            for again in (1, 1):
                fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), round=again)
                await fake.update()
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), round=2)
            assert "limits.rounds_per_job = 1" in (await declined(fake))[0]
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file(), round=2)
            await fake.next("ReportEvaluation")
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), round=2, job_id="job-2")
            await fake.update()

    asyncio.run(scenario())


def test_a_result_from_too_few_examples_stays_and_nobody_learns_how_many(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, "[limits]\nmin_examples = 10", learner="learners:Counting") as (fake, _):
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), round=2, config_json='{"examples": 7}')
            reason, retry_after = await declined(fake)
            assert reason == "the site's policy: it was made from fewer examples than limits.min_examples = 10"
            assert retry_after is None
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file())
            assert await declined(fake) == (reason, None)
            assert not fake.uploads
            # What the learner made of itself in that training is dropped, too.
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), round=3, config_json='{"examples": 10}')
            header, _ = await fake.update()
            assert header.metrics["count"] == 1

    asyncio.run(scenario())


def test_the_spool_has_a_quota(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, f"[limits]\nspool_bytes = {2 * LENGTH}") as (fake, _):
            train(fake)
            reason, _ = await declined(fake)
            assert f"bytes on disk, more than limits.spool_bytes = {2 * LENGTH}" in reason
            assert fake.fetched == []

    asyncio.run(scenario())


def test_training_keeps_to_threads_and_niceness(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, "[limits]\nthreads = 2\nnice = 11", "--threads", "3") as (fake, client):
            train(fake)
            header, _ = await fake.update()
            assert header.metrics["threads"] == 2
            assert client.trainer().nice() == 11

    asyncio.run(scenario())


def test_a_capped_upload_goes_in_small_pieces_and_arrives_whole(tmp_path: Path) -> None:
    caps = '[limits]\nupload_bytes_per_second = "1MB"\ndownload_bytes_per_second = "1MB"'

    async def scenario() -> None:
        async with site(tmp_path, caps) as (fake, _):
            train(fake, add=0.5)
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert fake.uploads[0].largest == 250_000

    asyncio.run(scenario())


def test_a_policy_is_read_again_and_declined_jobs_are_offered_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, '[jobs]\nnames = ["digits"]') as (fake, client):
            await fake.next("Register")
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_name="faces")
            await declined(fake)
            (tmp_path / "policy.toml").write_text('[jobs]\nname = ["faces"]')
            client.signal(signal.SIGHUP)
            assert "unknown key 'jobs.name'; did you mean 'jobs.names'?" in await client.says(
                "the policy stays as it was"
            )
            assert len(fake.registered) == 1
            (tmp_path / "policy.toml").write_text('[jobs]\nnames = ["faces"]')
            client.signal(signal.SIGHUP)
            assert (await fake.next("Register")).session_id == fake.registered[0].session_id
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_name="faces")
            await fake.update()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [("[limit]", "unknown key 'limit'; did you mean 'limits'?"), ("[limits]\nnice = 'very'", "limits.nice")],
)
def test_a_policy_with_a_mistake_ends_the_client_at_once(tmp_path: Path, policy: str, complaint: str) -> None:
    async def scenario() -> None:
        async with site(tmp_path, policy) as (fake, client):
            assert await client.exits() == 2
            assert complaint in client.said[-1]
            assert not fake.registered

    asyncio.run(scenario())


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path, "") as (fake, _):
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), config_json=json.dumps([1]))
            failure = await fake.next("ReportFailure")
            assert (failure.kind, failure.message) == (
                pb.FAILURE_KIND_CLIENT,
                "the coordinator sent a table that is no JSON object",
            )

    asyncio.run(scenario())

"""The admin client against a coordinator on a real port."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blake3 import blake3

from fedelta import errors
from fedelta.admin import AdminClient, ClientState, JobExtended, JobState, Outcome, Phase, RoundClosed, StateChanged
from fedelta.config import Version
from fedelta.v1 import admin_pb2 as pb
from tests.cli.conftest import write_job
from tests.cli.fake import FakeCoordinator, closed_round, job, round_event, state_event


@pytest.fixture
def admin(coordinator: FakeCoordinator) -> Iterator[AdminClient]:
    with AdminClient(coordinator.address, timeout=10, patience=10) as client:
        yield client


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_a_job_is_submitted_with_its_text_and_without_a_model(
    coordinator: FakeCoordinator, admin: AdminClient, job_file: Path
) -> None:
    assert admin.submit(job_file) == "digits-1"
    assert coordinator.submitted == [pb.SubmitJobRequest(toml=job_file.read_text(), file_name=str(job_file))]


def test_the_initial_model_beside_the_job_file_is_uploaded_first(
    coordinator: FakeCoordinator, admin: AdminClient, model_file: Path
) -> None:
    data = model_file.read_bytes()
    admin.submit(write_job(model_file.parent / "job.toml", init=model_file.name))
    header = pb.UploadModelHeader(digest=blake3(data).digest(), length=len(data))
    assert coordinator.uploads == [(header, data)]
    assert coordinator.submitted[0].model_digest == blake3(data).digest()


def test_a_missing_initial_model_says_how_to_make_it(admin: AdminClient, tmp_path: Path) -> None:
    with pytest.raises(
        errors.ConfigError, match=r"there is no file .*start\.safetensors; .*fedelta model init .*--seed 7"
    ):
        admin.submit(write_job(tmp_path / "job.toml", init="start.safetensors"))


def test_a_wrong_job_file_never_reaches_the_coordinator(
    coordinator: FakeCoordinator, admin: AdminClient, job_file: Path
) -> None:
    job_file.write_text(job_file.read_text() + "dedline = 5\n")
    with pytest.raises(errors.ConfigError, match=r"digits\.toml: unknown key 'rounds\.dedline'.*deadline"):
        admin.submit(job_file)
    assert coordinator.submitted == []


def test_what_is_no_model_is_refused_before_it_travels(
    coordinator: FakeCoordinator, admin: AdminClient, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"PK\x03\x04 not a tensor file")
    with pytest.raises(errors.PayloadError):
        admin.upload_model(path)
    assert coordinator.uploads == []


def test_a_job_and_its_rounds_come_as_dataclasses(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_PAUSED)
    coordinator.jobs["digits-1"].rounds.append(closed_round(1))
    info = admin.get("digits-1")
    assert (info.id, info.state, info.rounds_max) == ("digits-1", JobState.PAUSED, 2)
    assert info.submitted == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    (closed,) = info.rounds
    assert closed.digest == "01" * 32
    assert closed.metrics == {"accuracy": 0.75}
    assert [(part.client, part.phase, part.outcome, part.reason) for part in closed.clients] == [
        ("site-1", Phase.TRAIN, Outcome.ACCEPTED, ""),
        ("site-2", Phase.TRAIN, Outcome.LOST, "fell silent"),
    ]


def test_a_state_of_a_newer_coordinator_is_unknown_not_an_error(
    coordinator: FakeCoordinator, admin: AdminClient
) -> None:
    coordinator.jobs["digits-1"] = job(state=99)
    assert admin.list()[0].state is JobState.UNKNOWN


def test_clients_are_listed(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.clients.append(pb.Client(name="site-1", state=pb.CLIENT_STATE_BUSY, learners=["digits:Digits"]))
    (client,) = admin.clients()
    assert (client.name, client.state, client.learners) == ("site-1", ClientState.BUSY, ("digits:Digits",))


def test_jobs_are_steered(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_PAUSED)
    admin.pause("digits-1", "look at it")
    admin.resume("digits-1")
    admin.stop("digits-1", "enough")
    admin.extend("digits-1", 12)
    assert coordinator.steered == [
        ("pause", "digits-1", "look at it"),
        ("resume", "digits-1", ""),
        ("stop", "digits-1", "enough"),
        ("extend", "digits-1", "12"),
    ]


def test_errors_are_those_that_the_coordinator_raised(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    with pytest.raises(errors.NotFoundError, match="there is no job 'nope'"):
        admin.get("nope")
    coordinator.jobs["digits-1"] = job()
    with pytest.raises(errors.WrongStateError, match="not paused"):
        admin.resume("digits-1")


def test_nobody_there_is_said_at_once() -> None:
    server = f"localhost:{unused_port()}"
    with AdminClient(server) as admin:
        with pytest.raises(errors.UnavailableError, match=f"no coordinator answers at {server} .*fedelta server"):
            admin.list()
        with pytest.raises(errors.UnavailableError):
            next(admin.watch("digits-1"))


@pytest.mark.parametrize("server", ["", "http://host:1", "host:", "host:port", "a b:1"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(errors.ConfigError, match="HOST:PORT"):
        AdminClient(server)


def test_a_broken_watch_goes_on_after_the_last_event_seen(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [
        state_event(3, pb.JOB_STATE_RUNNING),
        round_event(5, 1),
        pb.JobEvent(sequence=6),  # of a kind that only a newer coordinator knows
        round_event(8, 2),
        state_event(9, pb.JOB_STATE_FINISHED, "all rounds are done"),
    ]
    coordinator.break_watch_after = [2, 0]
    seen = list(admin.watch("digits-1"))
    assert [event.sequence for event in seen] == [3, 5, 8, 9]
    assert coordinator.watches == [0, 5, 5]
    assert isinstance(seen[1].what, RoundClosed)
    assert seen[-1].what == StateChanged(state=JobState.FINISHED, reason="all rounds are done")


def test_a_stream_that_ends_before_the_job_is_taken_up_again(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [state_event(1, pb.JOB_STATE_RUNNING), state_event(2, pb.JOB_STATE_FINISHED)]
    coordinator.break_watch_after = [1]
    coordinator.watches_end_in_order = True
    assert [event.sequence for event in admin.watch("digits-1")] == [1, 2]


def test_an_end_that_an_extension_followed_is_not_the_end(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.events = [
        state_event(1, pb.JOB_STATE_FINISHED),
        pb.JobEvent(sequence=2, extended=pb.JobExtended(rounds_max=3)),
        state_event(3, pb.JOB_STATE_RUNNING),
        round_event(4, 3),
        state_event(5, pb.JOB_STATE_FINISHED),
    ]
    seen = list(admin.watch("digits-1"))
    assert [event.sequence for event in seen] == [1, 2, 3, 4, 5]
    assert seen[1].what == JobExtended(rounds_max=3)


@pytest.mark.parametrize("in_order", [True, False])
def test_an_extension_while_a_watch_is_broken_is_told(
    coordinator: FakeCoordinator, admin: AdminClient, in_order: bool
) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [
        state_event(1, pb.JOB_STATE_FINISHED),
        state_event(2, pb.JOB_STATE_RUNNING),
        state_event(3, pb.JOB_STATE_FINISHED),
    ]
    coordinator.break_watch_after = [2]
    coordinator.watches_end_in_order = in_order
    assert [event.sequence for event in admin.watch("digits-1")] == [1, 2, 3]


def test_a_watch_of_an_ended_job_that_knows_all_ends(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.events = [state_event(2, pb.JOB_STATE_FINISHED)]
    assert list(admin.watch("digits-1", after=2)) == []


def test_a_watch_waits_out_a_restart_of_the_coordinator(coordinator: FakeCoordinator, admin: AdminClient) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [state_event(1, pb.JOB_STATE_RUNNING), state_event(2, pb.JOB_STATE_FINISHED)]
    coordinator.break_watch_after = [1]
    events = admin.watch("digits-1")
    next(events)
    coordinator.stop()
    coordinator.start()
    assert [event.sequence for event in events] == [2]


def test_patience_with_a_coordinator_that_stays_away_ends(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [state_event(1, pb.JOB_STATE_RUNNING)]
    coordinator.break_watch_after = [1]
    with AdminClient(coordinator.address, patience=0.3) as admin:
        events = admin.watch("digits-1")
        next(events)
        coordinator.stop()
        with pytest.raises(errors.UnavailableError):
            next(events)


@pytest.mark.parametrize(("version", "expected"), [("latest", 2), ("best", 1), (0, 0)])
def test_a_download_is_the_version_asked_for(
    coordinator: FakeCoordinator, admin: AdminClient, tmp_path: Path, version: Version, expected: int
) -> None:
    coordinator.models = {0: b"zero" * 1000, 1: b"one" * 1000, 2: b"two" * 1000}
    coordinator.best = 1
    out = tmp_path / "model.safetensors"
    info = admin.download_model("digits-1", out, version=version)
    assert out.read_bytes() == coordinator.models[expected]
    assert (info.version, info.digest) == (expected, blake3(out.read_bytes()).hexdigest())


@pytest.mark.parametrize("version", ["latest", "best"])
def test_a_broken_download_goes_on_where_it_broke_with_the_same_version(
    coordinator: FakeCoordinator, admin: AdminClient, tmp_path: Path, version: Version
) -> None:
    data = bytes(range(256)) * 40
    coordinator.models = {1: data}
    coordinator.best = 1
    coordinator.break_download_at = [2500, 2500, 7001]
    out = tmp_path / "model.safetensors"
    admin.download_model("digits-1", out, version=version)
    assert coordinator.asked_versions[1:] == [1, 1, 1]
    assert out.read_bytes() == data
    assert coordinator.downloads == [0, 2500, 2500, 7001]


def test_a_spoiled_download_leaves_no_file(coordinator: FakeCoordinator, admin: AdminClient, tmp_path: Path) -> None:
    coordinator.models = {1: b"model" * 1000}
    coordinator.spoil = lambda data: b"M" + data[1:]
    with pytest.raises(errors.DigestMismatchError):
        admin.download_model("digits-1", tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_it_may_go(
    coordinator: FakeCoordinator, admin: AdminClient, tmp_path: Path
) -> None:
    coordinator.models = {1: b"new"}
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"old")
    with pytest.raises(errors.ConfigError, match="exists already"):
        admin.download_model("digits-1", out)
    assert out.read_bytes() == b"old"
    admin.download_model("digits-1", out, overwrite=True)
    assert out.read_bytes() == b"new"


def test_a_transfer_that_stands_still_is_given_up(
    coordinator: FakeCoordinator, model_file: Path, tmp_path: Path
) -> None:
    coordinator.hang = threading.Event()
    coordinator.models = {1: b"model"}
    with AdminClient(coordinator.address, stall=0.1) as admin:
        with pytest.raises(errors.StalledError, match="nothing moved"):
            admin.upload_model(model_file)
        with pytest.raises(errors.StalledError, match="nothing moved"):
            admin.download_model("digits-1", tmp_path / "out.safetensors")
        coordinator.hang.set()

"""What an operator does, and what goes wrong at the command line."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedelta.admin import AdminClient, JobState, RoundClosed
from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT, STEPS, data_of, fedelta, finish, job, let_go, start, start_client, trained

AB = {"a": (10, 1.0), "b": (30, -2.0)}


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Clients a and b, and another one, x, that offers another learner."""
    with federation(tmp_path_factory.mktemp("offers"), ENVIRONMENT) as found:
        found.start_coordinator()
        other = start_client(found, "x", "learners:Wider")
        start(found, tuple(AB))
        other.wait_for("connected")
        yield found


def test_jobs_for_different_learners_run_side_by_side(offers: Federation) -> None:
    x = {"x": (10, 1.0)}
    with AdminClient(offers.server) as admin:
        (data_of(offers, "a") / "go").unlink(missing_ok=True)
        held = admin.submit_text(job(sites=AB, acts={"a/1": "hold"}, learner=STEPS, max=1))
        other = finish(admin, admin.submit_text(job(sites=x, learner="learners:Wider", max=2)))
        assert admin.get(held).state is JobState.RUNNING
        let_go(offers, "a")
        assert (finish(admin, held).state, other.state) == (JobState.FINISHED, JobState.FINISHED)
        assert [set(trained(admin.get(each).rounds[0].clients)) for each in (held, other.id)] == [{"a", "b"}, {"x"}]


def test_pause_resume_and_stop(offers: Federation, tmp_path: Path) -> None:
    server = ("--server", offers.server)
    (data_of(offers, "b") / "go").unlink(missing_ok=True)
    file = tmp_path / "job.toml"
    file.write_text(job(sites=AB, acts={"b/1": "hold", "b/3": "hold"}, learner=STEPS, max=1000, lease="2s"))
    submitted = fedelta("job", "submit", file, *server)
    job_id = submitted.stdout.split()[-1]
    b = offers.clients["b"]
    b.wait_for("b holds in round 1")
    busy = {each["name"]: each for each in json.loads(fedelta("clients", "--json", *server).stdout)}
    assert (busy["b"]["state"], busy["b"]["assignments"]) == ("busy", [f"{job_id}.1.1.train.b"])
    assert (busy["x"]["state"], busy["x"]["learners"]) == ("idle", ["learners:Wider"])
    assert fedelta("job", "pause", job_id, "--reason", "maintenance", *server).returncode == 0
    let_go(offers, "b")
    with AdminClient(offers.server) as admin:
        for event in admin.watch(job_id):
            if isinstance(event.what, RoundClosed):
                break
        info = admin.get(job_id)
        # The open round was finished, and no other opened.
        assert (info.state, info.reason, info.rounds_done) == (JobState.PAUSED, "maintenance", 1)
        (data_of(offers, "b") / "go").unlink()
        assert fedelta("job", "resume", job_id, *server).returncode == 0
        b.wait_for("b holds in round 3")
        assert fedelta("job", "stop", job_id, "--reason", "enough", *server).returncode == 0
        info = admin.get(job_id)
    assert (info.state, info.reason, info.rounds_done) == (JobState.STOPPED, "enough", 2)
    watched = fedelta("job", "watch", job_id, *server)
    assert (watched.returncode, watched.stdout.splitlines()[-1].split(maxsplit=1)[1]) == (1, "stopped: enough")
    assert job_id in fedelta("job", "list", *server).stdout
    # Its clients were told to stop, and serve the next job.
    file.write_text(job(sites=AB, learner=STEPS, max=1))
    waited = fedelta("job", "submit", file, "--wait", *server)
    assert (waited.returncode, waited.stdout.split()[-1]) == (0, waited.stdout.split()[1])


def test_a_job_file_with_a_typing_error(offers: Federation, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(job(max=1).replace('"min_clients"', '"x"').replace('"clients"', '"cleints"'))
    refused = fedelta("job", "submit", file, "--server", offers.server)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {file}: unknown key 'rounds.cleints'; did you mean 'rounds.clients'?\n"


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    failed = fedelta("job", "list", "--server", f"127.0.0.1:{port}")
    assert failed.returncode == 4
    assert f"no coordinator answers at 127.0.0.1:{port}" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_coordinator_that_cannot_start_says_why_in_one_line(offers: Federation, tmp_path: Path) -> None:
    taken, own = offers.server.rpartition(":")[2], ("--state", tmp_path)
    wrong: dict[str, tuple[int, tuple[str | Path, ...]]] = {
        "the port is in use": (5, (*own, "--port", taken)),
        "is in use by another coordinator": (5, ("--state", offers.folder / "coordinator", "--port", "0")),
        "add --insecure-bind-anywhere": (2, (*own, "--port", "0", "--host", "0.0.0.0")),
    }
    for expected, (code, options) in wrong.items():
        failed = fedelta("server", *options)
        assert failed.returncode == code
        assert failed.stdout == ""
        (line,) = failed.stderr.splitlines()
        assert expected in line

"""One client that offers two learners to several jobs."""

import signal
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobInfo, JobState, Outcome
from fedelta.demo.processes import Federation, Process
from tests.e2e.running import STEPS, digests, finish, job, let_go, run, start_client, trained

SIZED = "learners:Sized"
SITE = {"a": (10, 1.0)}
ACCEPTED = {"a": (Outcome.ACCEPTED, "")}


@pytest.fixture
def site(running: Federation) -> Process:
    """The client, connected."""
    running.start_coordinator()
    client = start_client(running, "a", STEPS, "--learner", SIZED)
    client.wait_for("connected")
    return client


def trainer(client: Process, learner: str) -> psutil.Process:
    """The process that works for a learner."""
    (found,) = (each for each in psutil.Process(client.pid).children() if learner in each.cmdline())
    return found


def sized(rows: int) -> str:
    return job(sites=SITE, learner=SIZED, arguments={"rows": rows})


def shape_of(running: Federation, info: JobInfo, out: Path) -> tuple[int, ...]:
    """Of the final model's weights."""
    with AdminClient(running.server) as admin:
        admin.download_model(info.id, out, overwrite=True)
    return load_file(out)["weight"].shape


def test_jobs_for_two_learners_and_models_of_two_sizes_share_a_client(
    running: Federation, site: Process, tmp_path: Path
) -> None:
    """They take turns, and each is as good as if it ran alone."""
    trainers = [trainer(site, learner) for learner in (STEPS, SIZED)]
    texts = [job(sites=SITE, learner=STEPS), sized(30), sized(50)]
    with AdminClient(running.server) as admin:
        ids = [admin.submit_text(text) for text in texts]
        together = [finish(admin, job_id) for job_id in ids]
    assert [info.state for info in together] == [JobState.FINISHED] * 3
    assert [shape_of(running, info, tmp_path / "model") for info in together] == [(40, 25), (30, 25), (50, 25)]
    assert [trainer(site, learner) for learner in (STEPS, SIZED)] == trainers
    alone = [run(running, text) for text in texts]
    assert [digests(info) for info in together] == [digests(info) for info in alone]


def test_a_trainer_that_is_killed_leaves_the_other_job_alone(running: Federation, site: Process) -> None:
    killed, spared = trainer(site, SIZED), trainer(site, STEPS)
    with AdminClient(running.server) as admin:
        ids = [
            admin.submit_text(job(sites=SITE, learner=STEPS, max=4)),
            admin.submit_text(job(sites=SITE, learner=SIZED, acts={"a/2": "hold"})),
        ]
        site.wait_for("a holds in round 2")
        killed.send_signal(signal.SIGKILL)
        let_go(running, "a")
        other, hit = (finish(admin, job_id) for job_id in ids)
    assert [other.state, hit.state] == [JobState.FINISHED] * 2
    assert [trained(closed.clients) for closed in other.rounds] == [ACCEPTED] * 4
    assert [trained(closed.clients) for closed in hit.rounds] == [ACCEPTED] * 3
    assert trainer(site, STEPS) == spared
    assert trainer(site, SIZED) != killed
    assert "the trainer was killed by signal 9" in site.output()


def test_an_argument_that_a_model_does_not_take_is_told_to_the_jobs_owner(running: Federation, site: Process) -> None:
    del site
    text = job(sites=SITE, learner=SIZED, arguments={"row": 3}, max=1, attempts=1)
    with AdminClient(running.server) as admin:
        info = finish(admin, admin.submit_text(text))
    assert info.state is JobState.PAUSED
    assert "takes no argument 'row'; did you mean 'rows'?" in info.reason

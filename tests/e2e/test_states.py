"""What learners keep from round to round, held against arithmetic done here."""

import signal
from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobInfo, JobState, Outcome, ParticipationEnded
from fedelta.demo.processes import Federation
from tests.e2e.running import SITES, finish, job, let_go, run, start, start_client

AFRESH, MOMENTUM = "learners:Afresh", "learners:Momentum"
BIAS = 0.5
"""Every value of the initial model's bias."""


def bias_of(running: Federation, info: JobInfo) -> float:
    """The one value that the final model's bias has everywhere."""
    assert info.state is JobState.FINISHED
    out = running.folder / "model.safetensors"
    with AdminClient(running.server) as admin:
        admin.download_model(info.id, out)
    bias = load_file(out)["bias"]
    assert np.ptp(bias) == 0
    return float(bias[0])


def moved(*rounds: Mapping[str, float]) -> float:
    """The bias after rounds in which each site went so many times its target, or had no part."""
    bias = BIAS
    for steps in rounds:
        weights = {name: SITES[name][0] for name in steps}
        bias += sum(weights[name] * steps[name] * SITES[name][1] for name in steps) / sum(weights.values())
    return bias


# A site with momentum 1/2 that is drawn by 1 goes 1, then 1/2 + 1, then 3/4 + 1.
@pytest.mark.parametrize(("learner", "steps"), [(MOMENTUM, (1.0, 1.5, 1.75)), (AFRESH, (1.0, 1.0, 1.0))])
def test_momentum_lasts_where_it_is_declared(
    running: Federation, learner: str, steps: tuple[float, float, float]
) -> None:
    start(running, learner=learner)
    bias = bias_of(running, run(running, job()))
    assert bias == pytest.approx(moved(*(dict.fromkeys(SITES, step) for step in steps)), rel=1e-5)


def test_momentum_outlives_what_kills_coordinator_and_clients(running: Federation) -> None:
    """And it is that of the last update that counted: c has none in round 2."""
    start(running, learner=MOMENTUM)
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(job(acts={"b/2": "hold", "c/2": "stumble"}))
        for event in admin.watch(job_id):
            what = event.what
            if isinstance(what, ParticipationEnded) and (what.round, what.participation.client) == (2, "a"):
                assert what.participation.outcome is Outcome.ACCEPTED
                break
        running.clients["b"].wait_for("b holds in round 2")
    assert running.coordinator is not None
    for process in (running.coordinator, running.clients["a"], running.clients["b"]):
        process.send_signal(signal.SIGKILL)
        process.wait()
    running.start_coordinator()
    let_go(running, "b")
    for name in "ab":
        start_client(running, name, MOMENTUM)
    with AdminClient(running.server) as admin:
        info = finish(admin, job_id)
    second, third = {"a": 1.5, "b": 1.5}, {"a": 1.75, "b": 1.75, "c": 1.5}
    assert bias_of(running, info) == pytest.approx(moved(dict.fromkeys(SITES, 1.0), second, third), rel=1e-5)

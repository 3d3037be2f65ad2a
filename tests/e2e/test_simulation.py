"""`fedelta simulate`, held against a real federation with the same job, names and data, and at its ends."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedelta.admin import JobState
from fedelta.demo.processes import Federation
from fedelta_server.simulation import simulate
from tests.e2e.regression import Regression
from tests.e2e.running import ENVIRONMENT, SITES, data_of, digests, fedelta, job, run, start, toml

STEPS, MOMENTUM, REGRESSION = "learners:Steps", "learners:Momentum", "regression:Regression"


def shards(folder: Path) -> Path:
    for name in SITES:
        (folder / name).mkdir(parents=True)
    return folder


def simulated(folder: Path, text: str, *options: str | Path, learner: str = STEPS, data: Path | None = None) -> Any:
    """The history of a simulation that finishes."""
    (folder / "job.toml").write_text(text)
    out = folder / "history.json"
    data = data or shards(folder / "data")
    words = ("simulate", folder / "job.toml", "--learner", learner, "--data", data, "--json", out, *options)
    done = fedelta(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def made(history: Any) -> list[str]:
    return [version["digest"] for version in history["versions"]]


def test_a_simulated_job_makes_the_models_of_a_real_one(running: Federation, tmp_path: Path) -> None:
    start(running, learner=STEPS)
    for text in (job(noise=0.1), job(noise=0.1, max=5, clients=2, min_clients=3)):
        real = digests(run(running, text))
        assert len(real) > 3
        for workers in ("1", "2"):
            history = simulated(tmp_path, text, "--workers", workers, data=data_of(running, "a").parent)
            assert made(history) == real


def test_what_learners_keep_is_what_they_keep_in_a_real_job(running: Federation, tmp_path: Path) -> None:
    """Also where an update did not count."""
    start(running, learner=MOMENTUM)
    text = job(max=4, acts={"c/2": "stumble", "a/3": "diverge"})
    real = digests(run(running, text))
    assert made(simulated(tmp_path, text, learner=MOMENTUM, data=data_of(running, "a").parent)) == real


PLANS: dict[str, dict[str, dict[str, Any]]] = {
    "fedprox": {"local": {"name": "fedprox", "mu": 0.5}},
    "fednova": {"local": {"name": "fednova"}, "aggregator": {"name": "fednova"}},
    "adam": {"server_optimizer": {"name": "adam", "lr": 0.05}},
    "scaffold": {"local": {"name": "scaffold"}},
    "feddyn": {
        "model": {"init": "first-client", "personal": ["*bias"]},
        "local": {"name": "feddyn", "alpha": 0.1},
        "aggregator": {"name": "uniform"},
        "server_optimizer": {"name": "feddyn", "alpha": 0.1},
    },
}
"""Each with something that must get to clients or come from them, or lie beside the model."""


def planned(name: str) -> str:
    """A job of 3 rounds, 2 of the 3 sites in each."""
    return toml(
        {
            "job": {"name": name, "seed": 5},
            "model": {"init": "first-client"},
            "rounds": {"max": 3, "clients": 2, "min_clients": 3},
            "train": {"lr": 0.1, "batch_size": 4, "epochs": 2},
            **PLANS[name],
        }
    )


def test_every_plan_makes_the_models_of_a_real_job(running: Federation) -> None:
    start(running, learner=REGRESSION)
    for name in PLANS:
        info = run(running, planned(name))
        assert info.state is JobState.FINISHED, (name, info.reason)
        history = simulate(tomllib.loads(planned(name)), Regression, data=data_of(running, "a").parent)
        assert [version.digest for version in history.versions] == digests(info), name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_what_was_reached(tmp_path: Path, number: int, code: int) -> None:
    data = shards(tmp_path / "data")
    (tmp_path / "job.toml").write_text(job(acts={"b/2": "hold"}))
    out = tmp_path / "history.json"
    words = ["simulate", str(tmp_path / "job.toml"), "--learner", STEPS, "--data", str(data), "--json", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fedelta", *words, "--workers", "2"],
        env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        held = next(line for line in process.stdout if "b holds in round 2" in line)
        assert held
        if number == signal.SIGINT:
            # As a terminal does it: to all processes of the group.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == code
    assert "interrupted; running after 1 round" in said
    assert [version["number"] for version in json.loads(out.read_text())["versions"]] == [0, 1]

"""`fedelta simulate`, held against a real federation with the same job, names and data, and at its ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from fedelta.demo.processes import Federation
from tests.e2e.running import ENVIRONMENT, SITES, data_of, digests, fedelta, job, run, start

STEPS, MOMENTUM = "learners:Steps", "learners:Momentum"


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


@pytest.mark.parametrize(
    ("learner", "text", "options"),
    [
        (STEPS, job(noise=0.1), ()),
        (STEPS, job(noise=0.1), ("--workers", "2")),
        (STEPS, job(noise=0.1, max=5, clients=2, min_clients=3), ()),
        (MOMENTUM, job(max=4, acts={"c/2": "stumble", "a/3": "diverge"}), ()),
    ],
    ids=["all", "processes", "some", "durable state and failures"],
)
def test_a_simulated_job_makes_the_models_of_a_real_one(
    running: Federation, tmp_path: Path, learner: str, text: str, options: Sequence[str]
) -> None:
    start(running, learner=learner)
    real = digests(run(running, text))
    history = simulated(tmp_path, text, *options, learner=learner, data=data_of(running, "a").parent)
    assert len(real) > 3
    assert made(history) == real


def test_the_newest_version_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    history = simulated(tmp_path, job(), "--out", out, "--set", "rounds.max=1")
    assert history["model"] == str(out)
    # From 0.5 a quarter of the way to the sites' targets, which are -1.0833 on average by examples.
    assert load_file(out)["bias"][0] == pytest.approx(0.5 + 0.25 * (-65 / 60 - 0.5))
    again = fedelta("simulate", tmp_path / "job.toml", "--learner", STEPS, "--data", tmp_path / "data", "--out", out)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_a_job_that_pauses_says_so(tmp_path: Path) -> None:
    acts = {f"{name}/1": "stumble" for name in SITES}
    (tmp_path / "job.toml").write_text(job(acts=acts, attempts=1))
    done = fedelta("simulate", tmp_path / "job.toml", "--learner", STEPS, "--data", shards(tmp_path / "data"))
    assert done.returncode == 3
    assert "ValueError: the scanner is off" in done.stdout
    assert "in stumble" in done.stderr  # where the learner raised it


def test_ctrl_c_ends_it_with_what_was_reached(tmp_path: Path) -> None:
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
        # As a terminal does it: to all processes of the group.
        os.killpg(process.pid, signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted; running after 1 round" in said
    assert [version["number"] for version in json.loads(out.read_text())["versions"]] == [0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learner", "learners:Nobody"), "has no class 'Nobody'"),
        (("--learner", STEPS, "--clients", "4"), "has 3 entries; 4 clients"),
        (("--learner", STEPS, "--set", "rounds.maxx=3"), "rounds.maxx"),
        (("--learner", STEPS, "--set", "aggregator.name=meen"), "did you mean 'mean'"),
        (("--learner", STEPS, "--set", "job.learner=other"), "wait for ever"),
        (("--learner", STEPS, "--delays", "normal:1"), "half-normal"),
        (("--learner", STEPS, "--slow", "aa=2"), "they are a to c"),
        (("--learner", STEPS, "--json", "no/such/place.json"), "no directory"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_begun(tmp_path: Path, options: Sequence[str], words: str) -> None:
    (tmp_path / "job.toml").write_text(job())
    done = fedelta("simulate", tmp_path / "job.toml", "--data", shards(tmp_path / "data"), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr

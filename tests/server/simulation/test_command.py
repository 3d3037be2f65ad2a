"""`fedelta simulate`, in this process."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from fedelta.cli import main

LEARNER = "tests.server.simulation.learners:Toward"

JOB = """
[job]
name = "toward"
seed = 7

[model]
init = "first-client"

[rounds]
max = 2

[train]
examples = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job file, and data of three clients."""
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "data").mkdir()
    for name, number in {"a": 1, "b": 2, "c": 6}.items():
        (tmp_path / "data" / f"{name}.txt").write_text(str(number))
    return tmp_path


def simulate(folder: Path, *options: object, **environment: str) -> Result:
    words = ["simulate", folder / "job.toml", "--learner", LEARNER, "--data", folder / "data", *options]
    env = {"FEDELTA_DEBUG": None, **environment}
    return CliRunner().invoke(main, [str(word) for word in words], env=env)


def test_each_thing_that_happens_is_a_line(folder: Path) -> None:
    done = simulate(folder, "--delays", "constant:2", "--slow", "b=3")
    assert done.exit_code == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "     0.00  running",
        "     6.00  round 1: 3 of 3 clients  target 3",
        "    12.00  round 2: 3 of 3 clients  target 3",
        "    12.00  version 1: value 1.5",
        "    12.00  version 2: value 2.25",
        "    12.00  finished",
    ]
    assert last.startswith("finished after 2 rounds, value 2.25, 12.0 s on the simulation's clock, took ")


def test_history_and_model_are_written_where_they_are_wanted(folder: Path) -> None:
    history, model = folder / "history.json", folder / "model.safetensors"
    done = simulate(folder, "--json", history, "--out", model)
    assert done.exit_code == 0, done.stderr
    written = json.loads(history.read_text())
    assert (written["job"], written["state"], written["model"]) == ("toward-1", "finished", str(model))
    assert [version["number"] for version in written["versions"]] == [0, 1, 2]
    assert written["rounds"][0]["clients"][0] | {"facts": {}} == {
        "client": "a",
        "phase": "train",
        "outcome": "accepted",
        "reason": "",
        "examples": 5,
        "metrics": {"target": 1.0},
        "seconds": 0.0,
        "facts": {},
        "staleness": 0,
        "central": False,
    }
    assert done.stdout.split()[-1] == written["versions"][-1]["digest"]
    assert load_file(model)["value"].tolist() == [2.25, 2.25, 2.25]
    again = simulate(folder, "--out", model)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert simulate(folder, "--out", model, "--force").exit_code == 0


def test_values_of_the_job_can_be_changed(folder: Path) -> None:
    done = simulate(folder, "--set", "rounds.max=1", "--evaluator-data", folder / "data" / "c.txt", "--clients", "2")
    assert "finished after 1 round" in done.stdout
    assert "version 1: value 0.75  central value 0.75" in done.stdout
    assert "finished after 3 rounds" in simulate(folder, FEDELTA_JOB_ROUNDS_MAX="3").stdout


def test_a_job_that_pauses_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    acts = ", ".join(f"'{name}/1' = 'stumble'" for name in "abc")
    with caplog.at_level(logging.WARNING):
        done = simulate(folder, "--set", f"train.acts={{{acts}}}", "--set", "rounds.attempts=1")
    assert done.exit_code == 3, done.output
    assert "ValueError: the scanner is off" in done.stdout
    # Where the learner raised it, and once for all clients.
    assert [record.getMessage().count("in stumble") for record in caplog.records] == [1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learner", "tests.server.simulation.learners:Nobody"), "has no class 'Nobody'"),
        (("--clients", "4"), "has 3 entries; 4 clients"),
        (("--set", "rounds.maxx=3"), "rounds.maxx"),
        (("--set", "aggregator.name=meen"), "did you mean 'mean'"),
        (("--set", "aggregator={name='krum', byzantine=1}", "--set", "rounds.clients=2"), "aggregator 'krum' needs"),
        (("--set", "job.learner=other"), "wait for ever"),
        (("--delays", "normal:1"), "half-normal"),
        (("--slow", "aa=2"), "no client 'aa'; they are a to c"),
        (("--slow", "a"), "CLIENT=FACTOR"),
        (("--device", "auto"), "say cpu, cuda"),
        (("--json", "no/such/place.json"), "no directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_wrong_is_said_before_anything_is_begun(folder: Path, options: Sequence[str], words: str) -> None:
    done = simulate(folder, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_job_file_that_is_not_there_is_an_error(folder: Path) -> None:
    (folder / "job.toml").unlink()
    done = simulate(folder)
    assert done.exit_code == 2
    assert "job.toml" in done.stderr

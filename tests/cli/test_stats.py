"""`fedelta stats` against a coordinator on a real port."""

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fedelta import Task
from fedelta.cli import main
from fedelta.config import parse_job
from fedelta.execution import Workbench
from fedelta.statistics import Statistics
from fedelta.v1 import admin_pb2 as pb
from fedelta_server.aggregate import WeightedUpdate, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Sum
from tests.cli.fake import FakeCoordinator, job, state_event


class Patients(Statistics):
    """Ages 20, 30, ..., 70, and one that is unknown."""

    def columns(self) -> dict[str, Any]:
        return {"age": np.array([20.0, 30, 40, 50, 60, 70, np.nan]), "time": np.arange(7) + 1e9}


def answered(folder: Path, rounds: int, **arguments: Any) -> bytes:
    """The model after so many rounds in which one site took part."""
    site, model = Workbench(Patients()), folder / "model"
    site.initialize(Task(), model, arguments=arguments)
    for number in range(1, rounds + 1):
        site.train(Task(client="north", round=number), model, folder / "update", arguments=arguments)
        fold(model, [WeightedUpdate("north", folder / "update", 7)], folder / "next", Sum(), Sgd())
        (folder / "next").replace(model)
    return model.read_bytes()


@pytest.fixture
def finished(coordinator: FakeCoordinator) -> FakeCoordinator:
    """Every job is finished at once."""
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.events = [state_event(1, pb.JOB_STATE_FINISHED)]
    return coordinator


def stats(*words: object, coordinator: FakeCoordinator | None = None) -> Result:
    env = {"FEDELTA_SERVER": coordinator.address if coordinator else None, "FEDELTA_DEBUG": None}
    return CliRunner().invoke(main, ["stats", *map(str, words)], env=env)


def printed_job(*words: object) -> dict[str, Any]:
    result = stats("submit", "--min-clients", 3, *words, "--print-job")
    assert result.exit_code == 0, result.output
    parse_job(result.stdout, "printed")
    return tomllib.loads(result.stdout)


def test_the_job_is_an_ordinary_one() -> None:
    assert printed_job() == {
        "job": {"name": "statistics", "learner": "statistics"},
        "model": {"init": "first-client", "arguments": {}},
        "rounds": {"max": 1, "min_clients": 3, "min_updates": 3},
        "aggregator": {"name": "sum"},
        "server_optimizer": {"name": "sgd", "lr": 1.0},
        "evaluate": {"every": 0},
    }


def test_flags_become_arguments_of_the_model() -> None:
    words = ["--columns", 'age, "blood, sugar"', "--columns", "bmi", "--quantiles", "0.25,0.5", "--range"]
    words += ["--histogram", "age=0:100:4", "--histogram", "bmi=18.5,25,30", "--name", "ages", "--label", "site=north"]
    found = printed_job(*words)
    assert found["model"]["arguments"] == {
        "columns": ["age", "blood, sugar", "bmi"],
        "quantiles": [0.25, 0.5],
        "range": True,
        "edges": {"age": [0, 25, 50, 75, 100], "bmi": [18.5, 25, 30]},
    }
    assert found["job"] == {"name": "ages", "learner": "statistics", "labels": ["site=north"]}
    assert found["rounds"]["max"] == 8
    assert printed_job("--precise")["rounds"]["max"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--quantiles", "half"], "'half': say numbers between commas"),
        (["--quantiles", "2"], "model.arguments: quantiles[0]"),
        (["--histogram", "0:100:4"], "names no column"),
        (["--histogram", "age=0:100"], "say COLUMN=LOW:HIGH:BINS"),
        (["--histogram", "age=0:100:0"], "1 to 10000 bins"),
        (["--histogram", "age=5,4"], "each above the last"),
        (["--columns", "bmi", "--histogram", "age=0,1"], "'age' is not among the columns bmi"),
        (["--name", "a b"], "job.name"),
        (["--label", "a b"], "job.labels[0]"),
        (["--out", "result.xlsx"], "must end in .json or .csv"),
        (["--out", "no/such/folder.json"], "there is no directory"),
        (["--out", "result.json", "--no-wait"], "--out needs the result"),
    ],
)
def test_wrong_flags_are_found_before_anything_is_sent(
    coordinator: FakeCoordinator, words: list[str], says: str
) -> None:
    result = stats("submit", "--min-clients", 3, *words, coordinator=coordinator)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not coordinator.submitted


def test_the_number_of_sites_must_be_said(coordinator: FakeCoordinator) -> None:
    result = stats("submit", coordinator=coordinator)
    assert result.exit_code == 2
    assert "--min-clients" in result.stderr


def test_submit_waits_prints_a_table_and_writes_the_file(finished: FakeCoordinator, tmp_path: Path) -> None:
    arguments = {"columns": ["age"], "quantiles": [0.5], "range": True, "edges": {"age": [0, 40, 65]}}
    finished.models[8] = answered(tmp_path, 8, **arguments)
    out = tmp_path / "stats.json"
    words = ["--columns", "age", "--quantiles", "0.5", "--range", "--histogram", "age=0,40,65", "--out", out]
    result = stats("submit", "--min-clients", 1, *words, coordinator=finished)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    titles, row = (next(line for line in lines if line[:1] == [word]) for word in ("column", "age"))
    assert " ".join(titles) == "column count missing mean variance deviation minimum maximum quantile 0.5"
    assert row == ["age", "6", "1", "45", "291.667", "17.0783", "20", "70", "40"]
    bins = [line.split() for line in result.stdout.splitlines() if line.startswith(("below", "0 to", "40 to", "above"))]
    assert [line[-1] for line in bins] == ["0", "2", "3", "1"]
    assert json.loads(out.read_text()) == {
        "age": {
            "count": 6,
            "missing": 1,
            "mean": 45.0,
            "variance": pytest.approx(1750 / 6, rel=1e-15),
            "deviation": pytest.approx((1750 / 6) ** 0.5, rel=1e-15),
            "minimum": 20.0,
            "maximum": 70.0,
            "quantiles": {"0.5": 40.0},
            "histogram": {"edges": [0, 40, 65], "counts": [2, 3], "below": 0, "above": 1},
            "exact": True,
        }
    }


def test_show_derives_the_same_again(finished: FakeCoordinator, tmp_path: Path) -> None:
    finished.models[1] = answered(tmp_path, 1)
    result = stats("show", "digits-1", "--json", coordinator=finished)
    assert json.loads(result.stdout)["age"]["mean"] == 45
    table = stats("show", "digits-1", "--out", tmp_path / "out.csv", coordinator=finished)
    assert "ask with --precise: time" in table.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        age, time = csv.DictReader(file)
    assert (age["column"], age["count"], float(age["mean"])) == ("age", "6", 45.0)
    assert (time["column"], float(time["mean"])) == ("time", 1e9 + 3)
    refused = stats("show", "digits-1", "--out", tmp_path / "out.csv", coordinator=finished)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert stats("show", "digits-1", "--out", tmp_path / "out.csv", "--force", coordinator=finished).exit_code == 0


def test_a_job_that_pauses_gives_no_table_and_its_own_exit_code(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_PAUSED)
    coordinator.events = [state_event(1, pb.JOB_STATE_PAUSED, "site 'south': there is no column 'age'")]
    out = tmp_path / "stats.json"
    result = stats("submit", "--min-clients", 2, "--out", out, coordinator=coordinator)
    assert result.exit_code == 3
    assert "site 'south': there is no column 'age'" in result.stdout
    assert not out.exists()


def test_no_wait_prints_the_id_alone(coordinator: FakeCoordinator) -> None:
    result = stats("submit", "--min-clients", 2, "--no-wait", coordinator=coordinator)
    assert (result.exit_code, result.stdout) == (0, "submitted digits-1\n")
    (request,) = coordinator.submitted
    assert tomllib.loads(request.toml)["rounds"]["min_updates"] == 2


def test_another_jobs_model_is_no_result(finished: FakeCoordinator, model_file: Path) -> None:
    finished.models[1] = model_file.read_bytes()
    result = stats("show", "digits-1", coordinator=finished)
    assert result.exit_code == 2
    assert "no result of a statistics job" in result.stderr

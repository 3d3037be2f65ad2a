"""A job from its file to the exported model, held against arithmetic done here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from blake3 import blake3
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobState
from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT, SITES, STEPS, digests, fedelta, finish, job, run, start

ROUNDS = 3
BIAS = np.full(25, 0.5, np.float32)
"""Of the initial model."""


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Clients a, b and c, idle."""
    with federation(tmp_path_factory.mktemp("trio"), ENVIRONMENT) as found:
        start(found)
        yield found


def averaged(initial: npt.NDArray[np.float32], rounds: int) -> npt.NDArray[np.float64]:
    """FedAvg of what `Steps` does, in float64: every site's step from the common model, weighted by examples."""
    value = initial.astype(np.float64)
    total = sum(examples for examples, _ in SITES.values())
    for number in range(1, rounds + 1):
        value += sum(count * 0.25 * (target * number - value) for count, target in SITES.values()) / total
    return value


def test_a_job_makes_the_weighted_average_and_says_what_it_did(trio: Federation, tmp_path: Path) -> None:
    job_file, model = tmp_path / "job.toml", tmp_path / "model.safetensors"
    job_file.write_text(job(max=ROUNDS))
    submitted = fedelta("job", "submit", job_file, "--server", trio.server, "--wait")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.split()[-1]
    for version, out in (("0", tmp_path / "initial"), (str(ROUNDS), model)):
        exported = fedelta("model", "export", job_id, "--version", version, "--out", out, "--server", trio.server)
        assert exported.returncode == 0, exported.stderr
    initial, final = load_file(tmp_path / "initial"), load_file(model)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(final[name], averaged(initial[name], ROUNDS), rtol=1e-5, atol=1e-6)
    assert final["classes"].tolist() == [0, 1, 2]
    shown = json.loads(fedelta("job", "show", job_id, "--json", "--server", trio.server).stdout)
    assert shown["rounds"][-1]["digest"] == blake3(model.read_bytes()).hexdigest()
    check_account(shown, model.stat().st_size)


def check_account(shown: dict[str, Any], length: int) -> None:
    """What `job show --json` says of the job; `length` is that of a model file."""
    assert (shown["state"], shown["reason"]) == ("finished", "")
    assert [closed["number"] for closed in shown["rounds"]] == [1, 2, 3]
    # An update has the float32 tensors only: 24 bytes of integers stay behind, and the header differs a little.
    (up,) = {closed["bytes_up"] for closed in shown["rounds"]}
    assert 0 <= up - 3 * 4 * (40 * 25 + 25) < 3 * 1024
    # Each version is fetched once by each client: the one that it evaluates is the one that the next round trains from.
    assert [closed["bytes_down"] for closed in shown["rounds"]] == [3 * length] * 3
    assert [each["bytes_down"] for each in shown["evaluations"]] == [0, 0, 3 * length]
    for closed, evaluation in zip(shown["rounds"], shown["evaluations"], strict=True):
        assert 0 < closed["seconds"] < 60
        parts = [(part["client"], part["phase"], part["outcome"]) for part in closed["clients"]]
        assert parts == [(name, "train", "accepted") for name in SITES]
        parts = [(part["client"], part["phase"], part["outcome"]) for part in evaluation["clients"]]
        assert parts == [(name, "evaluate", "accepted") for name in SITES]
        goal = sum((n + 1) * target for n, target in SITES.values()) / (45 + 3) * closed["number"]
        bias = averaged(BIAS, closed["number"]).mean()
        assert closed["metrics"] == evaluation["metrics"] == {"distance": pytest.approx(goal - bias, rel=1e-5)}
        target = sum(n * target for n, target in SITES.values()) / 45
        assert closed["train_metrics"] == {"target": pytest.approx(target)}


def test_two_jobs_share_the_same_clients(trio: Federation) -> None:
    """They interleave: each is as good as if it ran alone."""
    alone = run(trio, job())
    with AdminClient(trio.server) as admin:
        ids = [admin.submit_text(job()) for _ in range(2)]
        together = [finish(admin, job_id) for job_id in ids]
    assert [info.state for info in together] == [JobState.FINISHED] * 2
    assert [digests(info) for info in together] == [digests(alone)] * 2


def test_an_initial_model_from_a_file_is_the_one_a_client_makes(trio: Federation, tmp_path: Path) -> None:
    model = tmp_path / "start.safetensors"
    made = fedelta("model", "init", "--learner", STEPS, "--seed", "7", "--out", model)
    assert made.returncode == 0, made.stderr
    from_file, from_client = run(trio, job(init=str(model), max=1)), run(trio, job(max=1))
    assert from_client.initial_digest == blake3(model.read_bytes()).hexdigest()
    assert digests(from_file) == digests(from_client)

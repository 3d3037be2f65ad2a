"""`fedelta model init`: seeds and arguments, from flags and from a job file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from fedelta.cli import main

LEARNER = """
import numpy as np
from fedelta import Learner

class Net(Learner):
    def model(self, hidden=4, *, activation="relu", since="2020-01-01"):
        assert isinstance(since, str)
        return {"w": np.random.random(hidden), activation: np.zeros(1)}
"""

JOB = """
[job]
name = "net"
seed = 7
[model]
init = "start.safetensors"
arguments = { hidden = 3, activation = "tanh", since = 2024-05-01 }
[rounds]
max = 2
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a learner and a job, as working directory."""
    (tmp_path / "net_of_a_test.py").write_text(LEARNER)
    (tmp_path / "net.toml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    sys.modules.pop("net_of_a_test", None)


def init(*words: str, **variables: str) -> Result:
    command = ["model", "init", "--learner", "net_of_a_test:Net", "--out", "out", "--force", *words]
    return CliRunner().invoke(main, command, env={"FEDELTA_DEBUG": None, **variables})


def made(*words: str, **variables: str) -> dict[str, np.ndarray]:
    result = init(*words, **variables)
    assert result.exit_code == 0, result.stderr
    return load_file("out")


@pytest.mark.usefixtures("project")
def test_arguments_are_set_one_by_one() -> None:
    model = made("--set", "hidden=6", "--set", "activation=gelu", "--set", "since=2024-05-01")
    assert {name: array.shape for name, array in model.items()} == {"w": (6,), "gelu": (1,)}


@pytest.mark.usefixtures("project")
def test_a_job_file_gives_seed_and_arguments_and_flags_are_stronger() -> None:
    of_job = made("--job", "net.toml")
    assert {name: array.shape for name, array in of_job.items()} == {"w": (3,), "tanh": (1,)}
    by_hand = made("--seed", "7", "--set", "hidden=3", "--set", "activation=tanh")
    np.testing.assert_array_equal(of_job["w"], by_hand["w"])
    assert not np.array_equal(made("--job", "net.toml", "--seed", "0")["w"], of_job["w"])
    assert made("--job", "net.toml", "--set", "hidden=5")["w"].shape == (5,)
    # What changes the job when it is submitted changes its initial model as well.
    assert made("--job", "net.toml", FEDELTA_JOB_MODEL_ARGUMENTS_HIDDEN="8")["w"].shape == (8,)


@pytest.mark.usefixtures("project")
def test_what_stays_at_clients_is_not_in_the_initial_model() -> None:
    whole = made("--seed", "7")
    by_flag = made("--seed", "7", "--personal", "r*")
    assert by_flag.keys() == {"w"}
    np.testing.assert_array_equal(by_flag["w"], whole["w"])
    assert made("--job", "net.toml", FEDELTA_JOB_MODEL_PERSONAL='["tan*"]').keys() == {"w"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--set", "hidden"), "--set hidden: say --set NAME=VALUE, for example --set hidden=64"),
        (("--set", "model.arguments.hidden=3"), "say --set NAME=VALUE"),
        (("--set", "hidden=[1,"), "--set hidden: '[1,' is not TOML"),
        (("--set", "hiden=3"), "Net.model() takes no argument 'hiden'; did you mean 'hidden'?"),
        (("--job", "nowhere.toml"), "nowhere.toml: cannot be read"),
        (("--personal", "head.*"), "model.personal: 'head.*' matches no tensor of the learner's model; it has relu, w"),
        (("--trainable",), 'model.tensors = "trainable" needs a torch.nn.Module'),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], error: str) -> None:
    result = init(*words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert error in line
    assert not Path("out").exists()

"""What only a process of its own shows: start-up, missing extras, Ctrl-C, closed pipes."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from safetensors.numpy import load_file

from fedelta.v1 import admin_pb2 as pb
from tests.cli.fake import FakeCoordinator, job, state_event

FEDELTA = (sys.executable, "-c", "from fedelta.cli import main; main()")


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FEDELTA, *words], env=os.environ | env, text=True, capture_output=True, check=False, timeout=60
    )


def heavy_after(*words: str) -> str:
    """What a command has imported at its end, of that which takes its time."""
    code = (
        f"import sys; from fedelta.cli import main; main({list(words)}, standalone_mode=False);"
        "print({'grpc', 'numpy', 'torch', 'sqlalchemy', 'rich'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, timeout=60)
    return found.stdout.splitlines()[-1]


def test_help_imports_nothing_heavy() -> None:
    assert heavy_after("--help") == "set()"


def test_every_command_is_listed() -> None:
    listed = run("--help").stdout.partition("Commands:")[2].split("\n")
    commands = "demo server client job clients model parts stats simulate verify disk completion"
    assert [line.split()[0] for line in listed if line] == commands.split()


def test_a_command_whose_extra_is_missing_says_what_brings_it() -> None:
    # A module set to None cannot be imported: as if it were not installed.
    code = "import sys; sys.modules['fedelta_server'] = None;from fedelta.cli import main; main()"
    command = [sys.executable, "-c", code]
    listed = subprocess.run([*command, "--help"], text=True, capture_output=True, check=True, timeout=60)
    assert 'pip install "fedelta[server]"' in listed.stdout
    refused = subprocess.run(
        [*command, "server", "--state", "x"], text=True, capture_output=True, check=False, timeout=60
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert 'pip install "fedelta[server]"' in refused.stderr


LEARNER = """
import numpy as np
from fedelta import Learner

class Line(Learner):
    def model(self):
        return {"slope": np.random.normal(size=3).astype(np.float32)}

class Sized(Learner):
    def setup(self):
        self.width = len(self.data.read_text())

    def model(self):
        return {"slope": np.zeros(self.width, np.float32)}
"""


def init(folder: Path, learner: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "line.py").write_text(LEARNER)
    command = [*FEDELTA, "model", "init", "--learner", learner, *words]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, timeout=60)


def test_an_initial_model_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for seed, out in [("7", "a"), ("7", "b"), ("8", "c")]:
        assert init(tmp_path, "line:Line", "--seed", seed, "--out", out).stderr == ""
    a, b, c = (load_file(tmp_path / name)["slope"] for name in "abc")
    assert a.shape == (3,)
    assert (a == b).all()
    assert (a != c).any()


def test_a_model_that_depends_on_data_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("four")
    refused = init(tmp_path, "line:Sized", "--out", "model")
    assert (refused.returncode, list(tmp_path.glob("*model*"))) == (2, [])
    assert "say --data" in refused.stderr
    assert init(tmp_path, "line:Sized", "--data", "data", "--out", "model").returncode == 0
    assert load_file(tmp_path / "model")["slope"].shape == (4,)


def test_version() -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    expected = f"fedelta 0.1.0, protocol 1, Python {python}, grpcio {version('grpcio')}\n"
    assert run("--version").stdout == expected


def test_version_imports_nothing_heavy() -> None:
    assert heavy_after("--version") == "set()"


def test_a_traceback_only_where_it_is_asked_for() -> None:
    words = ("job", "list", "--server", "localhost:1")
    assert "Traceback" not in run(*words, FEDELTA_DEBUG="").stderr
    assert "Traceback" in run(*words, FEDELTA_DEBUG="1").stderr


def test_ctrl_c_while_waiting_says_that_the_job_goes_on(job_file: Path) -> None:
    with FakeCoordinator() as coordinator:
        coordinator.jobs["digits-1"] = job()
        coordinator.events = [state_event(1, pb.JOB_STATE_RUNNING)]
        # The stream breaks after its event each time, so the command goes on watching.
        coordinator.break_watch_after = [1] + [0] * 1000
        command = [*FEDELTA, "job", "submit", str(job_file), "--wait", "--server", coordinator.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout is not None
            while "running" not in waiting.stdout.readline():
                assert waiting.poll() is None
            waiting.send_signal(signal.SIGINT)
            _, told = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        assert f"fedelta job watch digits-1 --server {coordinator.address}" in told
        assert "Traceback" not in told


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{' '.join(map(repr, FEDELTA))} --help | true"
    found = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True, timeout=60)
    assert found.stderr == ""

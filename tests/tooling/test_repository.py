"""What is written down twice, or promised to users, holds."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import fedelta
from fedelta.config import load_job

ROOT = Path(__file__).parents[2]
LEARNER = ROOT / "common/fedelta/demo/digits.py"


def test_the_learner_in_the_readme_and_in_the_example_is_the_one_that_runs() -> None:
    code = LEARNER.read_text()
    assert (ROOT / "examples/digits/digits.py").read_text() == code
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code in blocks


def test_the_learner_has_at_most_40_lines_of_code() -> None:
    assert len([line for line in LEARNER.read_text().splitlines() if line.strip()]) <= 40


def test_the_example_job_is_valid() -> None:
    spec, _ = load_job(ROOT / "examples/digits/digits.toml")
    assert (spec.job.name, spec.rounds.max, float(spec.rounds.deadline)) == ("digits", 20, 300.0)


def test_the_version_is_said_once() -> None:
    assert version("fedelta") == fedelta.__version__


def test_generated_code_and_bindings_need_no_newer_grpc_than_the_package_asks_for() -> None:
    generated = (ROOT / "common/fedelta/v1/admin_pb2_grpc.py").read_text()
    floor = re.search(r"GRPC_GENERATED_VERSION = '(\d+\.\d+)", generated)
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert floor is not None
    assert f"grpcio>={floor[1]},<2" in dependencies


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel that users get, built with what is installed: without the network."""
    out = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=110)
    (found,) = out.glob("*.whl")
    return zipfile.Path(found)


def test_the_wheel_holds_three_typed_packages_and_the_commands(wheel: zipfile.Path) -> None:
    for package in ("fedelta", "fedelta_client", "fedelta_server"):
        assert (wheel / package / "py.typed").is_file()
    top = {entry.name for entry in wheel.iterdir()}
    (info,) = (name for name in top if name.endswith(".dist-info"))
    assert top - {info} == {"fedelta", "fedelta_client", "fedelta_server"}
    entry_points = (wheel / info / "entry_points.txt").read_text()
    for command in ("server", "client", "job", "clients", "model", "demo"):
        assert re.search(rf"^{command} = ", entry_points, re.MULTILINE)
    assert (wheel / info / "licenses" / "LICENSE").is_file()

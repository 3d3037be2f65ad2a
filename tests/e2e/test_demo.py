"""`fedelta demo` as a newcomer runs it."""

import json
import signal
from pathlib import Path

import psutil
import pytest
import torch
from blake3 import blake3

import fedelta
from fedelta.demo.digits import Digits
from fedelta.demo.processes import Process
from tests.e2e.running import fedelta as command

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a demo that has come to its end."""
    folder = tmp_path_factory.mktemp("demo")
    words = ["demo", "--clients", "2", "--rounds", "2", "--epochs", "2", "--alpha", "0.5"]
    words += ["--json", str(folder / "rounds.json"), "--out", str(folder / "out")]
    with Process("demo", words, folder / "demo.log", {}) as demo:
        demo.wait_for("2 client processes connected", 60)
        (coordinator, *clients) = psutil.Process(demo.pid).children()
        maps = {each.pid: Path(f"/proc/{each.pid}/maps") for each in (coordinator, *clients)}
        if all(path.exists() for path in maps.values()):
            assert not any("libtorch" in path.read_text() for path in maps.values())
            trainers = [child for each in clients for child in each.children()]
            for trainer in (Path(f"/proc/{child.pid}/maps").read_text() for child in trainers):
                assert "libtorch" in trainer
                assert "cygrpc" not in trainer
        assert demo.wait(90) == 0, demo.output()
    return folder


def test_it_leaves_a_curve_a_model_and_numbers(out: Path) -> None:
    said = (out / "demo.log").read_text()
    for name in ("learning-curve.png", "model.safetensors"):
        assert str(out / "out" / name) in said
    assert (out / "out" / "learning-curve.png").read_bytes().startswith(PNG)
    rounds = json.loads((out / "rounds.json").read_text())["rounds"]
    assert [each["number"] for each in rounds] == [1, 2]
    for each in rounds:
        assert each["seconds"] > 0
        # Of both clients: the CNN has 38,282 parameters of 4 bytes.
        assert 2 * 153_128 < each["bytes_up"] < 2 * 155_000
        assert each["bytes_down"] > 2 * 153_128
        assert 0 < each["metrics"]["accuracy"] <= 1
        assert each["metrics"]["loss"] > 0
    model = out / "out" / "model.safetensors"
    assert blake3(model.read_bytes()).hexdigest() == rounds[-1]["digest"]


def test_its_model_loads_and_is_as_good_as_was_said(out: Path) -> None:
    learner = Digits()
    learner.data = out / "out" / "shards" / "pooled"
    learner.setup()
    model = learner.model()
    fedelta.load_state(model, out / "out" / "model.safetensors")
    with torch.no_grad():
        found = learner.evaluate(model.eval(), fedelta.Task())
    last = json.loads((out / "rounds.json").read_text())["rounds"][-1]["metrics"]
    assert found.metrics["accuracy"] == pytest.approx(last["accuracy"], abs=1e-6)


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    words = ["demo", "--clients", "2", "--rounds", "1000", "--out", str(tmp_path / "out")]
    with Process("demo", words, tmp_path / "demo.log", {}) as demo:
        demo.wait_for("2 client processes connected", 60)
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) >= 5  # the coordinator, and for each client runtime and trainer
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 130, demo.output()
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert "Traceback" not in demo.output()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    refused = command("demo", "--out", tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert (tmp_path / "thesis.tex").read_text() == "precious"

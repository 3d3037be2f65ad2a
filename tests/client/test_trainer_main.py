"""What the trainer process does inside: interrupts, and messages that never block."""

import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedelta.errors import LearnerError
from fedelta_client import messages as say
from fedelta_client.interrupts import Interrupts, Stop
from fedelta_client.trainer_main import Line, Trainer, resolve_device
from tests.client.jobs import model_file, train_command


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.getsignal(signal.SIGUSR1)
    yield Interrupts()
    signal.signal(signal.SIGUSR1, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def run(interrupts: Interrupts, learner: Callable[[], None]) -> None:
    with interrupts.allowed():
        learner()


def test_learner_code_is_interrupted(interrupts: Interrupts) -> None:
    steps = []

    def learner() -> None:
        interrupt()
        steps.append("went on")

    with pytest.raises(Stop):
        run(interrupts, learner)
    assert steps == []


def test_a_signal_outside_of_learner_code_is_forgotten(interrupts: Interrupts) -> None:
    steps = []
    interrupt()
    run(interrupts, lambda: steps.append("in peace"))
    interrupt()
    assert steps == ["in peace"]


def test_a_signal_while_a_message_is_sent_takes_effect_after_it(interrupts: Interrupts) -> None:
    steps = []

    def learner() -> None:
        with interrupts.deferred():
            interrupt()
            steps.append("sent")
        steps.append("went on")

    with pytest.raises(Stop):
        run(interrupts, learner)
    assert steps == ["sent"]


def test_cleaning_up_is_not_interrupted_again(interrupts: Interrupts) -> None:
    steps = []

    def learner() -> None:
        try:
            interrupt()
        finally:
            interrupt()
            with interrupts.deferred():
                steps.append("reported")
            steps.append("closed")

    with pytest.raises(Stop):
        run(interrupts, learner)
    assert steps == ["reported", "closed"]


@pytest.mark.usefixtures("interrupts")
def test_a_state_is_on_the_disk_before_the_runtime_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    synced: dict[Path, int] = {}

    def sync(fd: int) -> None:
        synced[Path(f"/proc/self/fd/{fd}").readlink()] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fsync", sync)
    (tmp_path / "model").write_bytes(model_file())
    prepare = say.Prepare(learner="tests.client.learners:Counting", data=str(tmp_path), device="cpu")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(say.line(prepare) + say.line(train_command(tmp_path)))
        ours.shutdown(socket.SHUT_WR)
        Trainer(Line(theirs)).serve()
        _, trained = ours.makefile("rb").read1().splitlines()
    answer = say.read_message(trained)
    assert isinstance(answer, say.Trained)
    assert answer.state_saved
    state = tmp_path / "state"
    assert synced == {state: state.stat().st_size}


def test_progress_never_blocks_and_never_tears_a_line() -> None:
    """The other end does not read; then it does, and finds only whole lines, the answer last."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as lines:
        line = Line(theirs)
        metrics = {f"metric-{number}": 0.5 for number in range(3000)}
        for number in range(200):
            line.mention(say.Progress(fraction=number, metrics=metrics))
        answering = threading.Thread(target=line.answer, args=[say.Interrupted()])
        answering.start()
        said = [say.read_message(raw) for raw in itertools.takewhile(lambda raw: b"Interrupted" not in raw, lines)]
        answering.join()
    fractions = [message.fraction for message in said if isinstance(message, say.Progress)]
    assert 0 < len(fractions) < 200
    assert fractions == sorted(set(fractions))


class FakeTorch:
    """As much of torch as is asked here, on a machine with one GPU."""

    class cuda:  # noqa: N801  torch's own name
        @staticmethod
        def is_available() -> bool:
            return True

    @staticmethod
    def empty(_size: int, device: str) -> None:
        if device not in ("cuda", "cuda:0"):
            raise RuntimeError("invalid device ordinal\nand a long trace")


@pytest.mark.parametrize(("wanted", "device"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda:0", "cuda:0")])
def test_the_device_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, wanted: str, device: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch)
    assert resolve_device(wanted) == device


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch)
    with pytest.raises(LearnerError, match=r"--device cuda:3 cannot be used here \(invalid device ordinal\)"):
        resolve_device("cuda:3")


def test_a_learner_without_torch_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert resolve_device("auto") == "cpu"

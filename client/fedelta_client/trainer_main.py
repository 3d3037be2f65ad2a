"""The trainer process: `python -m fedelta_client.trainer_main FD PARENT LEARNER`.

It loads the learner once and then does what the runtime asks over the socket FD until that closes. It has no
grpc and starts no thread of its own, so that a learner may fork (a DataLoader with workers does).
"""

import errno
import io
import json
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedelta._child import die_with
from fedelta.errors import FedeltaError, LearnerError, ModelMismatchError, StorageError
from fedelta.execution import StateFiles, Workbench, load_learner, offered_name
from fedelta.learner import Task
from fedelta.local import read_plan
from fedelta.models import Written
from fedelta_client import messages as say
from fedelta_client.interrupts import Interrupts, Stop

PROGRESS_SECONDS = 0.1
"""Progress is passed on this often at most."""


class Line:
    """The child's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self._rest = b""

    def commands(self) -> Iterator[bytes]:
        """Every command, until the runtime hangs up."""
        return iter(self._file.readline, b"")

    def answer(self, message: say.Message) -> None:
        """Says it, however long that takes."""
        self._sock.sendall(self._rest + say.line(message))
        self._rest = b""

    def mention(self, message: say.Message) -> None:
        """Says it if that is possible without waiting; a slow runtime must not hold up training."""
        begun, pending = bool(self._rest), self._rest or say.line(message)
        try:
            sent = self._sock.send(pending, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        # A line of which nothing went is forgotten; one that is begun must be ended before the next.
        if begun or sent:
            self._rest = pending[sent:]


class Trainer:
    """The learner and what can be asked of it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._interrupts = Interrupts()
        self._last_progress = 0.0
        self._workbench: Workbench | None = None
        self._device = "cpu"

    def serve(self) -> None:
        """Answers commands until the runtime hangs up."""
        for command in self._line.commands():
            self._line.answer(self._done(say.read_command(command)))

    def _done(self, command: say.ANY_COMMAND) -> say.Message:
        try:
            with self._interrupts.allowed():
                return self._do(command)
        except Stop:
            return say.Interrupted()
        except (Exception, SystemExit) as error:
            return _failed(error)

    def _do(self, command: say.ANY_COMMAND) -> say.Message:
        match command:
            case say.Prepare():
                return self._prepare(command)
            case say.Train():
                return self._train(command)
            case say.Evaluate():
                return self._evaluate(command)
            case say.Initialize():
                return self._initialize(command)

    def _prepare(self, command: say.Prepare) -> say.Ready:
        learner = load_learner(command.learner)
        self._device = resolve_device(command.device)
        learner.data = Path(command.data)
        learner.device = self._device
        learner.setup()
        self._workbench = Workbench(learner)
        return say.Ready(learner=offered_name(type(learner), command.learner), device=self._device)

    def _train(self, command: say.Train) -> say.Trained:
        work = command.assigned
        done = self._bench.train(
            self._task(work),
            Path(command.model),
            Path(command.out),
            arguments=_arguments(work),
            state=StateFiles(load=_path(work.state), save=Path(command.state_out)),
            plan=read_plan(work.plan),
            shared=_path(command.shared),
        )
        return say.Trained(
            file=_file(done.written),
            state_saved=done.state_saved,
            examples=done.examples,
            metrics=dict(done.metrics),
            seconds=done.seconds,
            facts=done.facts,
        )

    def _evaluate(self, command: say.Evaluate) -> say.Evaluated:
        work = command.assigned
        done = self._bench.evaluate(
            self._task(work),
            Path(command.model),
            arguments=_arguments(work),
            state=_path(work.state),
            plan=read_plan(work.plan),
        )
        return say.Evaluated(examples=done.examples, metrics=dict(done.metrics), seconds=done.seconds)

    def _initialize(self, command: say.Initialize) -> say.Initialized:
        work = command.assigned
        made = self._bench.initialize(
            self._task(work), Path(command.out), arguments=_arguments(work), plan=read_plan(work.plan)
        )
        return say.Initialized(file=_file(made))

    @property
    def _bench(self) -> Workbench:
        if self._workbench is None:
            raise LearnerError("the learner is not loaded")
        return self._workbench

    def _task(self, work: say.Assigned) -> Task:
        return Task(
            job=work.job,
            round=work.round,
            client=work.client,
            seed=work.seed,
            config=json.loads(work.config or "{}"),
            device=self._device,
            on_progress=self._report,
        )

    def _report(self, fraction: float, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = now
        with self._interrupts.deferred():
            self._line.mention(say.Progress(fraction=float(fraction), metrics=_finite(metrics)))


def _path(named: str | None) -> Path | None:
    return None if named is None else Path(named)


def _arguments(work: say.Assigned) -> dict[str, Any]:
    """What the model is built with."""
    arguments: dict[str, Any] = json.loads(work.model_arguments or "{}")
    return arguments


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN and no infinity."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _file(written: Written) -> say.File:
    return say.File(digest=written.digest.hex(), length=written.length, norm=written.norm)


def _failed(error: BaseException) -> say.Failed:
    """What the runtime hears of an exception. The traceback stays here: it may show data."""
    if not isinstance(error, FedeltaError) or error.__cause__ is not None:
        traceback.print_exception(error)
    text = str(error) if isinstance(error, FedeltaError) else f"{type(error).__name__}: {error}"
    return say.Failed(kind=_kind(error), message=text[: say.MAX_MESSAGE_CHARACTERS])


def _kind(error: BaseException) -> str:
    if isinstance(error, ModelMismatchError):
        return ModelMismatchError.code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError.code
    return LearnerError.code


def resolve_device(wanted: str) -> str:
    """What "auto" stands for here; checks that a named device exists. Raises `LearnerError` where it does not.

    torch is asked only where the learner has imported it: one that does not use it computes on the CPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or wanted == "cpu":
        return "cpu" if wanted == "auto" else wanted
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise LearnerError(f"--device {wanted} cannot be used here ({reason}); try --device auto") from None
    return wanted


def main() -> None:
    """Runs the trainer process."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    # The end of the socket says that the runtime died, too, but a learner at work does not read that. Elsewhere than on
    # Linux the trainer ends when its work is done.
    die_with(parent)
    os.set_inheritable(descriptor, False)
    # What a learner prints shall be seen when it is printed, and not be lost when the process is killed.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    with socket.socket(fileno=descriptor) as sock:
        Trainer(Line(sock)).serve()


if __name__ == "__main__":
    main()

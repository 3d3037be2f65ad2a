"""The runtime's handle on the trainer process."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from fedelta.errors import FedeltaError, LearnerError, ModelMismatchError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.config import TrainerSettings

INTERRUPT_SECONDS = 5.0
"""A trainer that does not stop within this is killed."""
EXIT_SECONDS = 2.0
"""A trainer that does not end by itself within this is killed."""

_MOST_LINE_BYTES = 16 << 20
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_KINDS: dict[str, "pb.FailureKind.ValueType"] = {
    LearnerError.code: pb.FAILURE_KIND_LEARNER,
    ModelMismatchError.code: pb.FAILURE_KIND_MODEL_MISMATCH,
}

OnProgress = Callable[[say.Progress], None]


class WorkFailedError(FedeltaError):
    """An assignment cannot be done by this client; `kind` and the message are for the coordinator."""

    code = "work-failed"

    def __init__(self, kind: "pb.FailureKind.ValueType", message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Trainer:
    """A live trainer process. It does one thing at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._reaper = asyncio.create_task(self._reap())
        self.patience = INTERRUPT_SECONDS

    @classmethod
    async def start(cls, settings: TrainerSettings) -> tuple[Self, say.Ready]:
        """Starts the process and loads the learner. Raises `WorkFailedError` where that fails.

        To be called in the main thread (see `fedelta._child.die_with`).
        """
        trainer = await cls._spawn(settings)
        data = str(settings.data.absolute())
        prepare = say.Prepare(learner=settings.learner, data=data, device=settings.device)
        try:
            ready = await trainer._exchange(prepare, _ignore)
        except BaseException:
            trainer.kill()
            await trainer.close()
            raise
        assert isinstance(ready, say.Ready)
        return trainer, ready

    @classmethod
    async def _spawn(cls, settings: TrainerSettings) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            # The learner is for people, who look with `ps` which trainer is which.
            command = ["-m", "fedelta_client.trainer_main", str(theirs.fileno()), str(os.getpid()), settings.learner]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # stdout is for programs: what learners print goes where people read
                pass_fds=[theirs.fileno()],
                # Its own session: Ctrl-C in the terminal reaches the runtime only, which then decides.
                start_new_session=True,
                env=_environment(settings),
            )
        _be_nice(process.pid, settings.nice)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_MOST_LINE_BYTES)
        return cls(process, reader, writer)

    @property
    def alive(self) -> bool:
        """Whether it can be given work."""
        return self._process.returncode is None and not self._reader.at_eof()

    async def do(self, command: say.Work, on_progress: OnProgress) -> say.ANY_MESSAGE:
        """Has the work done. Raises `WorkFailedError`, also where the process dies of it.

        When this is cancelled the learner is interrupted; if it does not stop the process is killed.
        """
        try:
            return await self._exchange(command, on_progress)
        except asyncio.CancelledError:
            await self._interrupt()
            raise

    async def _exchange(self, command: say.Command, on_progress: OnProgress) -> say.ANY_MESSAGE:
        self._writer.write(say.line(command))
        answer = await self._answer(on_progress)
        if isinstance(answer, say.Failed):
            raise WorkFailedError(_KINDS.get(answer.kind, pb.FAILURE_KIND_CLIENT), answer.message)
        return answer

    async def _answer(self, on_progress: OnProgress) -> say.ANY_MESSAGE:
        while said := await self._read_line():
            message = say.read_message(said)
            if not isinstance(message, say.Progress):
                return message
            on_progress(message)
        self.kill()
        raise WorkFailedError(pb.FAILURE_KIND_TRAINER_DIED, _how_it_ended(await self._process.wait()))

    async def _read_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def _interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        try:
            async with asyncio.timeout(self.patience):
                await self._answer(_ignore)
        except WorkFailedError:
            return
        except (TimeoutError, asyncio.CancelledError):
            self.kill()

    def kill(self) -> None:
        """Ends the process and those it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _reap(self) -> None:
        """Workers that outlive the trainer hold its end of the socket open, so they go with it."""
        await self._process.wait()
        self.kill()

    async def close(self) -> None:
        """Lets the process end, and makes it end."""
        self._writer.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._reaper), EXIT_SECONDS)
        except TimeoutError:
            self.kill()
        await self._reaper


def _ignore(_progress: say.Progress) -> None:
    """Nobody wants to know."""


def _environment(settings: TrainerSettings) -> dict[str, str]:
    return {**os.environ, **{name: _threads(settings, os.environ.get(name, "1")) for name in _THREAD_VARIABLES}}


def _threads(settings: TrainerSettings, usual: str) -> str:
    """How many threads, as the variables say it. `usual`: where the settings say nothing."""
    wanted, most = str(settings.threads or usual), settings.threads_max
    # OpenMP also reads lists, such as "4,2"; what cannot be compared is not taken over.
    return wanted if most is None or (wanted.isdecimal() and int(wanted) <= most) else str(most)


def _be_nice(pid: int, nice: int) -> None:
    """Sets the niceness of a process that has just begun: threads that it starts later have it, too."""
    if nice <= os.getpriority(os.PRIO_PROCESS, 0):
        return
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    # Where Linux groups processes by session, niceness counts within a session only: the group has one of its own.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"the trainer exited with status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"the trainer was killed by signal {-status}{hint}"

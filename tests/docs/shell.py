"""The shell that a page's commands are typed into: one after the other, or in terminals of their own."""

import contextlib
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import commands

_SCRIPT = Path(__file__).with_name("block.sh")
_STOP_SECONDS = 20.0


class ShellError(Exception):
    """Commands that did not do what was expected of them: what, and the line (from 0) where that is known."""

    def __init__(self, message: str, output: str, line: int = 0) -> None:
        super().__init__(message)
        self.output = output
        self.line = line


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A block of commands that has ended."""

    code: int
    output: str
    failed: int
    """The line of the command that failed, from 0."""


class Shell:
    """Runs commands in a folder. Variables and the working directory are carried from one block to the next."""

    def __init__(self, folder: Path, notes: Path, environment: Mapping[str, str]) -> None:
        """Commands start in `folder`; `notes` is an empty folder for the shell's own files."""
        self._folder = folder
        self._notes = notes
        self._environment = dict(environment)
        self._count = 0
        self._groups: list[list[Terminal]] = []

    def run(self, text: str, seconds: float) -> Finished:
        """Runs commands to their end, up to the first that fails."""
        failed = self._notes / "failed"
        failed.unlink(missing_ok=True)
        with self._start(text, self._notes / "state", failed) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                output, _ = process.communicate()
                raise ShellError(f"not done after {seconds:g} s; what stays needs `background`", output) from None
            finally:
                # Also what wrote elsewhere and was left behind, and all of it where the test itself is interrupted.
                _signal_group(process, signal.SIGKILL)
        line = int(failed.read_text()) - 1 if failed.exists() else 0
        return Finished(code=process.returncode, output=output, failed=line)

    def start(self, text: str, ready: str, seconds: float) -> str:
        """Starts each command in a terminal of its own; returns the output when all have printed `ready`."""
        state = self._notes / "state"
        group: list[Terminal] = []
        self._groups.append(group)
        for line, command in commands(text):
            own = self._notes / f"state-{self._count}"
            if state.exists():
                shutil.copyfile(state, own)
            group.append(Terminal(line, self._start(command, own, Path(os.devnull))))
        for terminal in group:
            terminal.wait_for(ready, seconds)
        return "".join(terminal.output() for terminal in group)

    def background(self) -> str:
        """What the commands in the background have printed."""
        return "".join(terminal.output() for group in self._groups for terminal in group)

    def stop(self) -> None:
        """Interrupts what runs in the background, the last started first. Raises where that does not end it."""
        stubborn: list[Terminal] = []
        while self._groups:
            group = self._groups.pop()
            for terminal in group:
                terminal.interrupt()
            stubborn += [terminal for terminal in group if not terminal.ended(_STOP_SECONDS)]
        if stubborn:
            raise ShellError(f"Ctrl-C did not end it within {_STOP_SECONDS:g} s", stubborn[0].output())

    def _start(self, text: str, state: Path, failed: Path) -> subprocess.Popen[str]:
        self._count += 1
        block = self._notes / f"block-{self._count}"
        block.write_text(text)
        return subprocess.Popen(
            ["bash", _SCRIPT, block, state, failed],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )


class Terminal:
    """A command that runs on in the background."""

    def __init__(self, line: int, process: subprocess.Popen[str]) -> None:
        self._line = line
        self._process = process
        self._arriving: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str, seconds: float) -> None:
        """Waits until it has printed `text`. Raises `ShellError` where it ends or takes too long without that."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self._printed):
            try:
                line = self._arriving.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ShellError(f"{text!r} was not printed within {seconds:g} s", "", self._line) from None
            if line is None:
                raise ShellError(f"it ended without printing {text!r}", "", self._line)
            self._printed.append(line)

    def output(self) -> str:
        """All that it has printed so far."""
        with contextlib.suppress(queue.Empty):
            while (line := self._arriving.get_nowait()) is not None:
                self._printed.append(line)
        return "".join(self._printed)

    def interrupt(self) -> None:
        """What Ctrl-C in its terminal does."""
        _signal_group(self._process, signal.SIGINT)

    def ended(self, seconds: float) -> bool:
        """Whether it ends by itself within this time. If not, it is killed."""
        # All of its processes hold the other end of the pipe.
        self._reader.join(seconds)
        good = not self._reader.is_alive()
        _signal_group(self._process, signal.SIGKILL)
        self._reader.join()
        self._process.wait()
        return good

    def _read(self) -> None:
        assert self._process.stdout is not None  # it was asked for
        with self._process.stdout as output:
            for line in output:
                self._arriving.put(line)
        self._arriving.put(None)


def environment(home: Path, binaries: Path) -> dict[str, str]:
    """A newcomer's environment: nothing of this user's own, and the virtual environment's commands first."""
    kept = ("TMPDIR", "TZ", "LD_LIBRARY_PATH", "DOCKER_HOST", "DOCKER_CONFIG")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",
    }


def python(text: str) -> str:
    """The command that runs this Python code in the working directory."""
    return shlex.join(["python", "-c", text])


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    # macOS refuses signals to a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

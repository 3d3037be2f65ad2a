"""Starts coordinators and clients as the real processes they are, for the demo, tests and benchmarks."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fedelta.errors import FedeltaError

_STOP_SECONDS = 15.0


class ProcessError(FedeltaError):
    """A process did not start or did not say what it should; the message ends with what it did say."""

    code = "process"


class Process:
    """A running `fedelta` command. Its output goes to a log file, and is watched for the line that says it is up."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        program: Sequence[str] = ("-m", "fedelta"),
    ) -> None:
        """`program`: what of Python runs the arguments."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._popen = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            # Ctrl-C on the terminal is for whoever started the federation; it stops the others in order.
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """What it has printed so far."""
        with self._said:
            return "\n".join(self._lines)

    def wait_for(self, text: str, seconds: float = 30.0) -> str:
        """The first line that contains `text`. Raises `ProcessError` where it ends or takes too long without it."""
        with self._said:
            self._said.wait_for(lambda: self._find(text) or self._ended, seconds)
            found = self._find(text)
        if found is None:
            tail = "\n".join(self.output().splitlines()[-15:])
            how = "ended" if self._ended else f"did not get there in {seconds:g} s"
            raise ProcessError(f"{self.name} {how} without saying {text!r}; see {self.log}\n{tail}")
        return found

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Waits for its end; returns the exit code."""
        code = self._popen.wait(seconds)
        self._reader.join()
        return code

    def stop(self) -> int:
        """Asks it to end, twice if need be, and then makes it; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            self.send_signal(number)
            try:
                return self.wait()
            except subprocess.TimeoutExpired:
                continue
        raise ProcessError(f"{self.name} (process {self.pid}) cannot be stopped")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _find(self, text: str) -> str | None:
        return next((line for line in self._lines if text in line), None)

    def _read(self) -> None:
        assert self._popen.stdout is not None  # it was asked for
        with self._popen.stdout as output, self.log.open("ab") as log:
            for raw in output:
                log.write(raw)
                log.flush()
                with self._said:
                    self._lines.append(raw.decode(errors="replace").rstrip("\n"))
                    self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()


class Federation:
    """One coordinator and its clients on this machine, below one directory. Use it in a `with` statement."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.server = ""
        """HOST:PORT of the coordinator."""
        self.clients: dict[str, Process] = {}
        """By name; of several processes under one name the newest."""
        self.coordinator: Process | None = None
        self._started: list[Process] = []
        self._environment = environment or {}

    def start_coordinator(self, *options: str, port: int = 0) -> Process:
        """Starts the coordinator, or starts it again with its old state and port, and waits until it serves."""
        port = port or int(self.server.rpartition(":")[2] or 0)
        arguments = ["server", "--state", str(self.folder / "coordinator"), "--port", str(port), *options]
        self.coordinator = process = self._start("coordinator", arguments)
        self.server = process.wait_for("coordinator ready on ").rpartition(" ")[2]
        return process

    def start_client(self, name: str, learner: str, *options: str, data: Path | None = None) -> Process:
        """Starts a client. It may take seconds to be ready: `wait_for("connected")` waits for that."""
        arguments = ["client", "--server", self.server, "--learner", learner, "--name", name]
        arguments += ["--spool", str(self.folder / "spools" / name), *options]
        arguments += ["--data", str(data)] if data is not None else []
        self.clients[name] = process = self._start(name, arguments)
        return process

    def _start(self, name: str, arguments: Sequence[str]) -> Process:
        process = Process(name, arguments, self.folder / f"{name}.log", self._environment)
        self._started.append(process)
        return process

    def stop(self) -> None:
        """Stops all clients side by side, then the coordinator."""
        clients = [process for process in self._started if process is not self.coordinator]
        for client in clients:
            client.send_signal(signal.SIGTERM)
        for client in clients:
            client.stop()
        if self.coordinator is not None:
            self.coordinator.stop()


@contextmanager
def federation(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Federation]:
    """A `Federation` that is stopped at the end, whatever happens."""
    found = Federation(folder, environment)
    try:
        yield found
    finally:
        found.stop()

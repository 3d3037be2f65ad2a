"""A client process under test."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.client.fake import PATIENCE_SECONDS

COMMAND = [sys.executable, "-m", "fedelta", "client"]
AT_TERMINAL = [
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
]
"""Runs a command in a session of its own such that its stdin, a terminal, controls it."""
LEARNERS = Path(__file__).with_name("learners.py")


class ClientProcess:
    """A running `fedelta client` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self._news = asyncio.Event()
        self._readers = [asyncio.create_task(self._listen(stream)) for stream in (process.stdout, process.stderr)]

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        async for line in stream:
            self.said.append(line.decode().rstrip())
            self._news.set()

    async def says(self, text: str) -> str:
        """The first line with the text in it, once it is said."""
        while True:
            found = next((line for line in self.said if text in line), None)
            if found is not None:
                return found
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE_SECONDS)
            except TimeoutError:
                raise AssertionError(f"{text!r} is not among what the client said: {self.said}") from None

    async def exits(self) -> int:
        """The exit code, once it has ended and said all."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self._readers)
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def trainer(self) -> psutil.Process:
        """Its trainer process."""
        return self.trainers()[0]

    def trainers(self) -> list[psutil.Process]:
        """Its trainer processes."""
        return psutil.Process(self.process.pid).children()


@asynccontextmanager
async def started(
    address: str,
    where: Path,
    *options: str,
    learner: str = "learners:Scripted",
    name: str = "site-1",
    terminal: int | None = None,
) -> AsyncIterator[ClientProcess]:
    """A client that is started in `where` and is gone afterwards. An empty `learner`: the options say which.

    `terminal`: what it sits at; it has none otherwise.
    """
    shutil.copy(LEARNERS, where)
    offered = ["--learner", learner] if learner else []
    arguments = ["--server", address, *offered, "--name", name, *options]
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    process = await asyncio.create_subprocess_exec(
        *([] if terminal is None else AT_TERMINAL),
        *COMMAND,
        *arguments,
        cwd=where,
        env={**environment, "XDG_STATE_HOME": str(where / "state")},
        stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
        start_new_session=terminal is not None,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    client = ClientProcess(process)
    try:
        yield client
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await client.exits()

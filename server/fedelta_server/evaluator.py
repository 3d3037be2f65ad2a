"""The central evaluation: a client that evaluates only, kept running beside the coordinator.

It is a process of its own, so that the daemon loads neither a learner nor torch. To the coordinator it is a client like
any other: it polls, fetches and reports over the loopback.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fedelta._names import CENTRAL_NAME
from fedelta._words import span
from fedelta.wire.hosts import dialable, join
from fedelta_server.config import ServerConfig

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""Between two starts; one that ran for longer than this begins with the first pause again."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def evaluating(config: ServerConfig, port: int) -> AsyncIterator["Evaluator | None"]:
    """Has an evaluator run meanwhile, if one is configured. To be called in the main thread (`fedelta._child`)."""
    if config.evaluator is None:
        yield None
        return
    evaluator = Evaluator(_command(config, port))
    keeping = asyncio.create_task(evaluator.keep())
    try:
        yield evaluator
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


class Evaluator:
    """The process, started anew where it ends."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._draining = False

    async def keep(self) -> None:
        """Keeps it running until this is cancelled, which kills it, or until `drain`."""
        pauses = _pauses()
        while not self._draining:
            began = time.monotonic()
            code = await self._run()
            if self._draining:
                return
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pauses = _pauses()
            pause = next(pauses)
            _log.error("the central evaluator ended with exit code %d; starting it again in %s", code, span(pause))
            await asyncio.sleep(pause)

    def drain(self) -> None:
        """Lets it finish what it does and end. What it does not finish is done by the next one, after a restart."""
        self._draining = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def _run(self) -> int:
        """Starts it and returns its exit code."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,  # stdout is for those who wait for the coordinator
            # Its own session: Ctrl-C in the terminal reaches the daemon only, which then decides.
            start_new_session=True,
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _command(config: ServerConfig, port: int) -> list[str]:
    """The words that start it. Variables of a client (FEDELTA_CLIENT_DEVICE and such) count for it, too."""
    given = {
        "server": join(dialable(config.host), port),
        "learner": config.evaluator,
        "data": config.evaluator_data,
        "name": CENTRAL_NAME,
        "spool": config.state / CENTRAL_NAME,
        "proxy": "none",
        "log-format": config.log_format,
    }
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    verbose = ["--verbose"] if config.verbose else []
    words = ["client", "--evaluate-only", *options, *verbose]
    return [sys.executable, "-m", "fedelta._child", str(os.getpid()), *words]


def _pauses() -> Iterator[float]:
    seconds = FIRST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)

"""Machines of their own on a cable: network namespaces, for what only a change of address shows."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.client.process import ClientProcess
from tests.e2e.running import ENVIRONMENT
from tests.net.cable import Cable

CABLE = ("10.213.77.1", "10.213.77.2")
"""The addresses of the two machines."""


def missing() -> str:
    """Why there can be no such machines here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2's `ip`"
    made = subprocess.run(["ip", "netns", "add", _name("probe")], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        _ip("netns", "del", _name("probe"))
    return f"network namespaces cannot be made here: {made.stderr.strip()}" if made.returncode else ""


class Machine:
    """One of the two."""

    def __init__(self, name: str) -> None:
        self._name = name

    def configure(self, *words: str) -> None:
        """Runs `ip` on it."""
        _ip("-n", self._name, *words)

    @asynccontextmanager
    async def starts(self, *words: str | Path) -> AsyncIterator[ClientProcess]:
        """A `fedelta` command on it; it is ended with the block."""
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self._name, sys.executable, "-m", "fedelta", *map(str, words)),
            env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started = ClientProcess(process)
        try:
            yield started
        finally:
            if process.returncode is None:
                process.kill()
            await started.exits()

    async def tells(self, *words: str | Path) -> Any:
        """What a `fedelta` command on it prints with --json."""
        async with self.starts(*words, "--json") as asked:
            assert await asked.exits() == 0, asked.said
            return json.loads("\n".join(asked.said))


@contextmanager
def two_machines(hosts: str = "", cable: Cable | None = None) -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one cable, a perfect one unless another is given, with these lines in their /etc/hosts."""
    with ExitStack() as held:
        first, second = (held.enter_context(_machine(_name(each), hosts)) for each in ("a", "b"))
        (cable.plug if cable is not None else _plug)(_name("a"), _name("b"))
        for machine, address in zip((first, second), CABLE, strict=True):
            machine.configure("addr", "add", f"{address}/24", "dev", "cable")
            for link in ("lo", "cable"):
                machine.configure("link", "set", link, "up")
        yield first, second


def _plug(first: str, second: str) -> None:
    """A pair of devices of the kernel's, which hands packets over at once."""
    _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)


@contextmanager
def _machine(name: str, hosts: str) -> Iterator[Machine]:
    _ip("netns", "add", name)
    # What `ip netns exec` puts in the place of /etc.
    etc = Path("/etc/netns", name)
    try:
        etc.mkdir(parents=True)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        (etc / "resolv.conf").write_text("")
        yield Machine(name)
    finally:
        shutil.rmtree(etc, ignore_errors=True)
        _ip("netns", "del", name)


def _name(machine: str) -> str:
    """Of this process's own, so that runs of the tests do not meet."""
    return f"fedelta-{os.getpid()}-{machine}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

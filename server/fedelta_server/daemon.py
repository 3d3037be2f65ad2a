"""The coordinator process: from start to drain."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from grpc import aio

from fedelta._words import size
from fedelta.errors import ConfigError, FedeltaError, InUseError, StorageError
from fedelta.wire.hosts import join, resolves_to_loopback
from fedelta_server.config import ServerConfig
from fedelta_server.coordinator import Coordinator
from fedelta_server.evaluator import evaluating
from fedelta_server.retention import Keep
from fedelta_server.rpc import build_server
from fedelta_server.store.files import Files
from fedelta_server.store.journal import Journal
from fedelta_server.store.usage import usage

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 10.0
_PARTING_SECONDS = 0.2


async def serve(config: ServerConfig) -> int:
    """Runs the daemon until SIGINT or SIGTERM; returns its exit code. A second signal ends it at once.

    Raises `ConfigError`, `InUseError` where another process holds the state directory or the port, `StorageError`.
    """
    with _locked(config.state):
        signals = _Signals()
        async with _running(config) as (server, coordinator, port), evaluating(config, port) as evaluator:
            await signals.first()
            print("draining; press Ctrl-C again to stop now", flush=True)
            if evaluator is not None:
                evaluator.drain()
            await coordinator.drain()
            waits = [asyncio.ensure_future(wait) for wait in (coordinator.calls.idle(), signals.again())]
            await asyncio.wait(waits, timeout=_DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            # Not the whole grace again: gRPC would spend it on connections that are merely open.
            await server.stop(_PARTING_SECONDS)
    return signals.exit_code


@asynccontextmanager
async def _running(config: ServerConfig) -> AsyncIterator[tuple[aio.Server, Coordinator, int]]:
    keep = Keep(updates=config.keep_updates, versions=config.keep_versions, every=config.keep_every)
    coordinator = Coordinator(Journal(f"sqlite:///{config.state / 'journal.db'}"), Files(config.state), keep)
    try:
        await coordinator.start()
        server = await build_server(coordinator, keep_free=config.keep_free)
        port = _bind(server, config)
        await server.start()
        print(f"coordinator ready on {join(config.host, port)}", flush=True)
        await coordinator.in_thread(_tell_disk_use, config.state)
        yield server, coordinator, port
    finally:
        await coordinator.close()


def _tell_disk_use(state: Path) -> None:
    found = usage(state)
    largest = sorted(found, key=lambda use: use.bytes, reverse=True)[:3]
    kinds = ", ".join(f"{use.kind} {size(use.bytes)}" for use in largest if use.bytes)
    free = shutil.disk_usage(state).free
    _log.info("%s takes %s (%s); %s are free", state, size(sum(use.bytes for use in found)), kinds, size(free))


def _bind(server: aio.Server, config: ServerConfig) -> int:
    if not resolves_to_loopback(config.host) and not config.insecure_bind_anywhere:
        raise ConfigError(
            f"--host {config.host} can be reached from other machines and nothing is encrypted yet; "
            "add --insecure-bind-anywhere if the network is trusted"
        )
    address = join(config.host, config.port)
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        raise _cannot_listen(config, address) from None


def _cannot_listen(config: ServerConfig, address: str) -> FedeltaError:
    """Why, which gRPC does not say and a plain socket does."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        socket.create_server((config.host, config.port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return ConfigError(
                f"cannot listen on {address}: {error.strerror}; --host must be an address of this machine"
            )
    return InUseError(f"cannot listen on {address}: the port is in use. Choose another --port (0: a free one)")


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Keeps a second daemon off the state directory."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"--state {state}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"--state {state} is in use by another coordinator") from None
        yield
    finally:
        os.close(fd)


class _Signals:
    """SIGINT and SIGTERM as events: the first asks to drain, the next to stop now."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, self._on_signal, number)

    async def first(self) -> None:
        """Waits for the first signal."""
        await self._wait(1)

    async def again(self) -> None:
        """Waits for the second signal."""
        await self._wait(2)

    @property
    def exit_code(self) -> int:
        """0 where one signal was enough, else as shells have it for the last one."""
        return 128 + self._received[-1] if len(self._received) > 1 else 0

    def _on_signal(self, number: int) -> None:
        self._received.append(number)
        self._changed.set()

    async def _wait(self, count: int) -> None:
        while len(self._received) < count:
            self._changed.clear()
            await self._changed.wait()

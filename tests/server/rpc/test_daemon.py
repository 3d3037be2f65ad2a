"""The daemon from start to drain."""

import asyncio
import fcntl
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fedelta.errors import ConfigError, FedeltaError, InUseError, StorageError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.v1.admin_pb2_grpc import AdminServiceStub
from fedelta_server.config import ServerConfig
from fedelta_server.daemon import serve
from tests.server.rpc.harness import Client, job_toml, run, update_file


@dataclass
class Lines:
    """Stands in for stdout; lines can be awaited."""

    lines: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)

    def write(self, text: str) -> int:
        if text.strip():
            self.lines.put_nowait(text)
        return len(text)

    def flush(self) -> None:
        pass


@dataclass
class Daemon:
    """A daemon in this process."""

    task: "asyncio.Task[int]"
    lines: "asyncio.Queue[str]"
    channel: aio.Channel

    async def client(self, name: str) -> Client:
        client = Client(self.channel, name)
        await client.register()
        return client

    def signal(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def daemon(state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    """Runs the daemon on a free port; the body must end it."""
    out = Lines()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        task = asyncio.ensure_future(serve(ServerConfig(state=state, port=0)))
        ready = re.fullmatch(r"coordinator ready on (127\.0\.0\.1:\d+)", await out.lines.get())
        assert ready is not None
        async with aio.insecure_channel(ready[1]) as channel:
            yield Daemon(task, out.lines, channel)


def test_a_signal_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with daemon(tmp_path / "new" / "state", monkeypatch) as it:
            client = await it.client("site-1")
            watch: Any = AdminServiceStub(it.channel)
            job_id = (await watch.SubmitJob(admin.SubmitJobRequest(toml=job_toml(init="first-client")))).job_id
            work = await client.work()
            assert work.job_id == job_id
            poll = client.poll(running=[work.id])
            listed = await watch.ListClients(admin.ListClientsRequest())
            assert [each.name for each in listed.clients] == ["site-1"]
            it.signal()
            assert (await poll).retry_after.seconds == 1
            assert "draining" in await it.lines.get()
            assert await it.task == 0

    run(scenario)


def test_a_second_signal_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with daemon(tmp_path, monkeypatch) as it:
            client = await it.client("site-1")
            operator: Any = AdminServiceStub(it.channel)
            await operator.SubmitJob(admin.SubmitJobRequest(toml=job_toml(init="first-client")))
            work = await client.work()
            update = update_file(1.0)
            ended = asyncio.Event()

            async def unfinished() -> AsyncIterator[Any]:
                yield client.header(work.id, update)
                yield update[:100]
                await ended.wait()

            upload = client.push_raw(unfinished())
            while (await client.held(work.id, update)).bytes_held < 100:
                pass
            it.signal()
            assert "draining" in await it.lines.get()
            it.signal()
            assert await it.task == 128 + signal.SIGTERM
            ended.set()
            with pytest.raises(aio.AioRpcError):
                await upload

    async def again() -> None:
        async with daemon(tmp_path, monkeypatch) as it:
            client = await it.client("site-1")
            work = await client.work()
            assert work.kind == pb.ASSIGNMENT_KIND_INITIALIZE
            assert (await client.held(work.id, update_file(1.0))).bytes_held == 100
            it.signal()
            assert await it.task == 0

    run(scenario)
    run(again)


def _refused(config: ServerConfig) -> FedeltaError:
    with pytest.raises(FedeltaError) as error:
        asyncio.run(serve(config))
    return error.value


def test_a_state_directory_has_one_daemon(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = _refused(ServerConfig(state=tmp_path, port=0))
    assert isinstance(error, InUseError)
    assert f"{tmp_path} is in use by another coordinator" in error.message


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = _refused(ServerConfig(state=tmp_path / "file", port=0))
    assert isinstance(error, StorageError)
    assert str(tmp_path / "file") in error.message


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        error = _refused(ServerConfig(state=tmp_path, port=port))
    assert isinstance(error, InUseError)
    assert f"127.0.0.1:{port}: the port is in use" in error.message


def test_a_host_of_another_machine_is_a_wrong_setting(tmp_path: Path) -> None:
    error = _refused(ServerConfig(state=tmp_path, host="192.0.2.1", port=0, insecure_bind_anywhere=True))
    assert isinstance(error, ConfigError)
    assert "--host" in error.message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_let_in_only_when_asked_for(tmp_path: Path, host: str) -> None:
    error = _refused(ServerConfig(state=tmp_path, host=host, port=0))
    assert isinstance(error, ConfigError)
    assert "--insecure-bind-anywhere" in error.message


def test_another_versions_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database, but long enough to be looked at" * 50)
    error = _refused(ServerConfig(state=tmp_path, port=0))
    assert isinstance(error, StorageError)
    assert "journal.db" in error.message

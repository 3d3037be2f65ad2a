"""Commands and clients behind a proxy, and what they say where it does not let them through."""

import asyncio
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from fedelta.admin import AdminClient
from fedelta.errors import BadRequestError, FedeltaError, UnreachableError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.wire import diagnosis, route
from fedelta.wire.proxy import ProxySetting, choose
from fedelta_client.session import Session
from tests.cli.fake import FakeCoordinator as FakeAdmin
from tests.client.fake import FakeCoordinator
from tests.client.jobs import train, update_file
from tests.client.process import started
from tests.net.relay import ConnectProxy, Listener, Relay, Speaker, dead_port, status

FAR = "coordinator.example:8470"
"""Only the proxy knows where that is."""
USER = "user:se%3Acret"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
VARIABLES = {f"{name}_proxy": "" for name in ("https", "all", "no")} | {"FEDELTA_PROXY": ""}


async def fedelta(*words: str, **environment: str) -> tuple[int | None, str]:
    """Runs the command; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fedelta", *words),
        env={**os.environ, **VARIABLES, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def test_a_command_goes_through_the_proxy_that_the_environment_names() -> None:
    async def scenario(fake: FakeAdmin) -> None:
        async with ConnectProxy(names={FAR: f"127.0.0.1:{fake.port}"}, credentials="user:se:cret") as proxy:
            url = f"http://{USER}@{proxy.address}"
            ways = (("HTTPS_PROXY", ()), ("FEDELTA_PROXY", ()), ("", ("--proxy", url)))
            told = [
                fedelta("job", "list", "--server", FAR, *flags, **({name: url} if name else {})) for name, flags in ways
            ]
            assert await asyncio.gather(*told) == [(0, "there are no jobs\n")] * 3
            assert proxy.asked == [FAR] * 3

    with FakeAdmin() as fake:
        asyncio.run(scenario(fake))


def test_a_command_goes_past_the_proxy_where_it_is_told_to() -> None:
    async def scenario(fake: FakeAdmin) -> None:
        async with ConnectProxy() as proxy:
            address, url = f"127.0.0.1:{fake.port}", proxy.url
            assert (await fedelta("job", "list", "--server", address, HTTPS_PROXY=url))[0] == 0
            excepted = fedelta("job", "list", "--server", "nowhere.invalid:1", https_proxy=url, no_proxy=".invalid")
            without = fedelta("job", "list", "--server", "nowhere.invalid:1", "--proxy", "none", https_proxy=url)
            for code, said in await asyncio.gather(excepted, without):
                assert code == 4
                assert "the name nowhere.invalid is not known here" in said
            assert proxy.accepted == 0

    with FakeAdmin() as fake:
        asyncio.run(scenario(fake))


def test_a_setting_that_names_no_proxy_is_refused_without_its_password() -> None:
    async def scenario() -> None:
        url = "socks5://user:secret@proxy:1080"
        command, client = await asyncio.gather(
            fedelta("job", "list", "--server", FAR, ALL_PROXY=url),
            fedelta("client", "--learner", "x:X", "--proxy", url),
        )
        assert command[0] == client[0] == 2
        assert "ALL_PROXY names a proxy by socks5://" in command[1]
        assert "--proxy" in client[1]
        assert "socks5://" in client[1]
        assert "secret" not in command[1] + client[1]

    asyncio.run(scenario())


def test_the_settings_of_a_client_show_no_password() -> None:
    words = ("client", "--learner", "x:X", "--proxy", "http://user:secret@proxy:3128", "--print-config")
    text, json = (asyncio.run(fedelta(*words, *more)) for more in ((), ("--json",)))
    for code, said in (text, json):
        assert code == 0
        assert "http://***@proxy:3128" in said
        assert "secret" not in said


def test_a_client_trains_behind_a_proxy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeCoordinator() as fake,
            ConnectProxy(names={FAR: fake.address}, credentials="user:se:cret") as proxy,
            started(FAR, tmp_path, "-v", "--proxy", f"http://{USER}@{proxy.address}") as client,
        ):
            train(fake, add=0.5)
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert set(proxy.asked) == {FAR}
            assert not any("cret" in line for line in client.said)

    asyncio.run(scenario())


async def refused(target: str, proxy: str = "none") -> FedeltaError:
    """How an admin call to the target ends."""

    def call() -> None:
        with AdminClient(target, proxy=proxy, timeout=10) as admin:
            admin.list()

    with pytest.raises(FedeltaError) as caught:
        await asyncio.to_thread(call)
    return caught.value


def through(proxy: object) -> str:
    return f"through the proxy {proxy}, which the setting proxy names"


@pytest.mark.parametrize(
    ("answer", "why", "remedy"),
    [
        (status(407), r"refuses the credentials, or misses them \(407\)", "http://USER:PASSWORD@HOST:PORT"),
        (status(403), r"the proxy refuses \(403\)", f"ask whoever runs it to allow CONNECT to {FAR}"),
        (status(502), rf"does not get through to {FAR} \(502\)", "`fedelta server` is running there"),
        (status(429), "the proxy answers 429", "ask whoever runs it"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is no HTTP proxy", "check host and port of the proxy"),
        (b"HTTP/1.1", "closed the connection", "one that expects TLS, must leave this one alone"),
    ],
)
def test_a_proxy_that_makes_no_tunnel_is_named_with_the_remedy(answer: bytes, why: str, remedy: str) -> None:
    async def scenario() -> None:
        async with ConnectProxy() as proxy:
            proxy.answers = [answer] * 20
            error = await refused(FAR, f"http://user:secret@{proxy.address}")
            assert isinstance(error, UnreachableError)
            assert error.message.startswith(f"no coordinator answers at {FAR} {through(proxy)} (")
            assert re.search(why, error.message)
            assert remedy in error.message
            assert "secret" not in error.message

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(400), "made a tunnel, but what answers in it is no coordinator"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "made a tunnel, but what answers in it is no coordinator"),
        (TLS_ALERT, "closed the connection or said nothing"),
        (b"", "closed the connection or said nothing"),
    ],
)
def test_a_tunnel_that_ends_elsewhere_is_told_from_a_refusal(answer: bytes, why: str) -> None:
    async def scenario() -> None:
        async with Speaker(answer) as elsewhere, ConnectProxy(names={FAR: elsewhere.address}) as proxy:
            error = await refused(FAR, proxy.url)
            assert isinstance(error, UnreachableError)
            assert why in error.message
            assert "a proxy that looks into tunnels" in error.message

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(400), "what is there speaks HTTP/1 and not gRPC"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what is there does not speak gRPC"),
        (TLS_ALERT, "the connection was closed before the coordinator said anything"),
        (b"", "the connection was closed before the coordinator said anything"),
    ],
)
def test_a_port_that_speaks_something_else_is_told_from_a_coordinator(answer: bytes, why: str) -> None:
    async def scenario() -> None:
        async with Speaker(answer) as elsewhere:
            error = await refused(elsewhere.address)
            assert isinstance(error, UnreachableError)
            assert error.message.startswith(f"no coordinator answers at {elsewhere.address} ({why}); check the port")

    asyncio.run(scenario())


NO_NAME = r"the name nowhere.invalid is not known here\); check its spelling"
NOBODY = r"connection refused\); is `fedelta server` running there\?"
NO_PROXY = r"nothing listens at the proxy's address\); check host and port of the proxy"
NO_ANSWER = r"did not answer within 1 s\); check host and port, and that a firewall lets this machine connect to it"
NO_WORD = r"a connection was made, but nothing was said on it within 1 s\); check the port"
NO_TUNNEL = r"127.0.0.1:\d+ did not answer within 1 s\)|.* closed the connection or said nothing for 1 s\)"


def test_what_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (route, diagnosis):
        monkeypatch.setattr(module, "CONNECT_SECONDS", 1)

    async def scenario() -> None:
        async with Listener() as closed, Speaker(None) as mute:
            await closed.die()
            with dead_port() as port:
                dead, far = f"127.0.0.1:{port}", "nowhere.invalid:1"
                direct = {closed: NOBODY, far: NO_NAME, dead: f"{dead} {NO_ANSWER}", mute: NO_WORD}
                proxied = {closed: NO_PROXY, far: NO_NAME, dead: NO_TUNNEL, mute: NO_TUNNEL}
                found = await asyncio.gather(
                    *(refused(str(each)) for each in direct), *(refused(FAR, f"http://{each}") for each in proxied)
                )
            ends = [rf"at {each} \({end}" for each, end in direct.items()]
            ends += [rf"at {FAR} {through(each)} \({end}" for each, end in proxied.items()]
            for error, end in zip(found, ends, strict=True):
                assert isinstance(error, UnreachableError)
                assert re.match(f"no coordinator answers {end}", error.message), error.message

    asyncio.run(scenario())


def test_a_web_server_that_speaks_http2_is_no_coordinator() -> None:
    async def scenario() -> None:
        # It speaks gRPC even, but has another service.
        async with FakeCoordinator() as fake:
            error = await refused(fake.address)
            assert isinstance(error, BadRequestError)
            assert "answers, but it is no fedelta coordinator" in error.message

    asyncio.run(scenario())


def test_a_client_says_each_reason_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedelta.client")

    async def scenario() -> None:
        async with FakeCoordinator() as fake, ConnectProxy(names={FAR: fake.address}) as proxy:
            proxy.answers = [status(407), status(407), status(502), status(407), status(502)]
            through = choose(FAR, ProxySetting(proxy.url), {})
            async with Session(FAR, "site-1", ["l"], proxy=through) as session:
                await session.register()
            assert len(proxy.asked) == 6

    asyncio.run(scenario())
    first, second, back = caplog.messages
    # Its records hold on to errors, and these to the session.
    caplog.clear()
    assert first.startswith(f"waiting for the coordinator: no coordinator answers at {FAR} through the proxy ")
    assert "(407)" in first
    assert "(502)" in second
    assert back == f"coordinator {FAR} answers again"


def test_a_connection_that_is_cut_costs_a_reconnect_and_no_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedelta.client")

    async def scenario() -> None:
        async with FakeCoordinator() as fake, Relay(fake.address) as relay:
            async with Session(relay.address, "site-1", ["l"]) as session:
                await session.register()
                poll = asyncio.create_task(session.call(session.stub.NextAssignment, pb.NextAssignmentRequest()))
                await fake.next("NextAssignment")
                relay.cut()
                await fake.next("NextAssignment")
                given = train(fake)
                assert (await poll).assignment == given
            assert relay.accepted == 2

    asyncio.run(scenario())
    assert caplog.messages == []

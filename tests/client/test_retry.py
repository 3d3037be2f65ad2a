"""When clients come back that lost their coordinator, and when they try again: mostly simulated."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

import grpc
import pytest

from fedelta.errors import BusyError, FedeltaError, UnavailableError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.wire.channel import trailer
from fedelta.wire.route import Route
from fedelta_client import session
from fedelta_client.retry import MOST_SECONDS, returns
from fedelta_client.session import Session
from fedelta_server.pace import MOST_RETURNS_PER_SECOND, reconnect_seconds
from tests.client.fake import Context, FakeCoordinator

FLEET = 10_000
HOUR = 3600.0


def returned_at(within: float, away: float) -> float:
    """When a client is back that lost the coordinator at 0; the coordinator is `away` for so long."""
    return next(time for time in itertools.accumulate(returns(within)) if time >= away)


def each_second(clients: int, within: float, away: float) -> Counter[int]:
    """How many of them are back in each second after the coordinator is."""
    return Counter(int(returned_at(within, away) - away) for _ in range(clients))


@pytest.fixture(autouse=True)
def _always_the_same() -> None:
    random.seed(7)


@pytest.mark.parametrize("away", [0.2, 2.0, 7.0, 30.0, 300.0])
@pytest.mark.parametrize("round_seconds", [2.0, 60.0, HOUR])
def test_ten_thousand_clients_come_back_spread_over_the_time_they_were_given(away: float, round_seconds: float) -> None:
    within = reconnect_seconds(FLEET, round_seconds, lease_seconds=60)
    came = each_second(FLEET, within, away)
    assert max(came.values()) < 2.5 * FLEET / within, "no second has much more than its share"
    assert max(came.values()) < 2.5 * MOST_RETURNS_PER_SECOND
    assert max(came) <= within + 1, "all are back in time"


def test_without_a_hint_they_would_come_in_one_second() -> None:
    assert max(each_second(FLEET, within=0, away=0.2).values()) == FLEET, "what the test above is able to see"


@pytest.mark.parametrize("away", [0.2, 2.0, 7.0, 30.0, 300.0])
def test_a_few_clients_are_back_at_once(away: float) -> None:
    came = each_second(10, reconnect_seconds(10, HOUR, lease_seconds=60), away)
    assert max(came) <= min(away, MOST_SECONDS)


class Crowded(FakeCoordinator):
    """Has many clients, and says so."""

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        answer = await super().Register(request, context)
        answer.reconnect_within.seconds = 3
        return answer

    async def _refuse(self, context: Context, error: FedeltaError) -> NoReturn:
        await context.abort(grpc.StatusCode[error.status], error.message, trailing_metadata=trailer(error))
        raise AssertionError("abort raises")


def test_a_client_heeds_the_latest_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []

    def at_once(within: float) -> Iterator[float]:
        heard.append(within)
        return itertools.repeat(0.0)

    monkeypatch.setattr(session, "returns", at_once)

    async def scenario() -> None:
        async with Crowded() as fake, Session(fake.address, "ada", ["a:B"]) as ada:
            await ada.register()
            await ada.call(ada.stub.RenewAssignment, pb.RenewAssignmentRequest())
            former = ada.stub
            await ada.adapt(20)
            assert ada.stub is not former, "a channel keeps the pauses it was made with"
            fake.refusals["RenewAssignment"].append(UnavailableError("restarting"))
            await ada.call(ada.stub.RenewAssignment, pb.RenewAssignmentRequest())

    asyncio.run(scenario())
    assert heard == [0, 3, 20]


def test_the_channel_of_one_of_many_clients_pauses_longer_between_its_tries() -> None:
    assert dict(Route(target="h:1").options())["grpc.max_reconnect_backoff_ms"] == 1000
    many = Route(target="h:1", reconnect_seconds=20)
    assert dict(many.options())["grpc.initial_reconnect_backoff_ms"] == 100
    assert dict(many.options())["grpc.max_reconnect_backoff_ms"] == 20_000


def test_a_client_that_finds_no_room_waits_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    async def scenario() -> None:
        async with Crowded() as fake, Session(fake.address, "ada", ["a:B"]) as ada:
            await ada.register()
            fake.refusals["RenewAssignment"].append(BusyError("full", retry_seconds=40))
            with monkeypatch.context() as patched:
                patched.setattr(asyncio, "sleep", pause)
                await ada.call(ada.stub.RenewAssignment, pb.RenewAssignmentRequest())

    asyncio.run(scenario())
    assert len(paused) == 1
    assert 32 <= paused[0] <= 40

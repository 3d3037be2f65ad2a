"""When the log says that a client is gone, and that it is back."""

import asyncio
import logging

import pytest

from fedelta_server import presence
from fedelta_server.engine import Client
from fedelta_server.presence import Presence


def told(
    *, answers: bool = False, leaves: bool = False, session: str = "s", caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What is logged of a client whose call broke off, and that calls again under a session."""
    caplog.set_level(logging.INFO, "fedelta_server.presence")
    client = Client("a", "s", ("l",), {}, "0", 0.0)

    async def scenario() -> None:
        listener = Presence()
        client.disconnected = True
        listener.broke_off(client)
        client.disconnected, client.left = not answers, leaves
        for _ in range(2):
            await asyncio.sleep(0)
        listener.polls(Client("a", session, ("l",), {}, "0", 0.0))
        listener.polls(client)

    asyncio.run(scenario())
    return caplog.messages


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GONE_SECONDS", 0)


def test_a_client_that_comes_back_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog=caplog) == ["is gone: its connection broke", "is back"]


def test_who_answers_again_or_leaves_in_order_was_not_gone(caplog: pytest.LogCaptureFixture) -> None:
    assert told(answers=True, caplog=caplog) == []
    assert told(leaves=True, caplog=caplog) == []


def test_another_process_of_the_name_is_not_the_one_that_was_gone(caplog: pytest.LogCaptureFixture) -> None:
    assert told(session="another", caplog=caplog) == ["is gone: its connection broke"]

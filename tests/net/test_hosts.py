"""Hosts as they are listened on and as they are dialled."""

import pytest

from fedelta.wire.hosts import dialable


@pytest.mark.parametrize(
    ("host", "dialled"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("10.0.0.5", "10.0.0.5"),
        ("::1", "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("[::]", "::1"),
    ],
)
def test_a_process_on_the_same_machine_reaches_whatever_a_coordinator_listens_on(host: str, dialled: str) -> None:
    assert dialable(host) == dialled

"""Within which time clients are asked to come back."""

import math

import pytest

from fedelta_server.pace import reconnect_seconds

HOUR = 3600.0


@pytest.mark.parametrize(
    ("clients", "round_seconds", "lease", "expected"),
    [
        (3, HOUR, 60.0, 0.06),
        (3, 1.0, 60.0, 0.06),
        (1000, HOUR, 60.0, 20.0),
        (1000, 60.0, 60.0, 6.0),
        (1000, 2.0, 60.0, 2.0),
        (10_000, HOUR, 60.0, 30.0),
        (10_000, 2.0, 60.0, 20.0),
        (10_000, 0.0, 1.0, 20.0),
        (2000, math.inf, math.inf, 40.0),
        (1_000_000, HOUR, HOUR, 60.0),
    ],
)
def test_as_slowly_as_rounds_and_leases_allow_but_no_faster_than_can_be_taken(
    clients: int, round_seconds: float, lease: float, expected: float
) -> None:
    assert reconnect_seconds(clients, round_seconds, lease) == pytest.approx(expected)

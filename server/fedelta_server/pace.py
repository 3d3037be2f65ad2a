"""How fast clients that lost the coordinator may come back: pure arithmetic."""

import math

from fedelta_server.engine import Engine

MOST_RETURNS_PER_SECOND = 500
"""What a coordinator takes at any time: a handshake, Register and NextAssignment for each."""

EASY_RETURNS_PER_SECOND = 50
"""What it does not notice."""

MOST_SECONDS = 60.0
"""Nobody is kept away for longer."""

ROUND_SHARE = 0.1
"""Where rounds are long, so much of one may pass until all are back."""

LEASE_SHARE = 0.5
"""Who works must be back before its lease is over."""


def reconnect_seconds(clients: int, round_seconds: float, lease_seconds: float) -> float:
    """Within which time so many clients are to come back, each at a random moment.

    As slowly as rounds and leases of that length allow, but never faster than the coordinator can take.
    """
    slowly = min(clients / EASY_RETURNS_PER_SECOND, ROUND_SHARE * round_seconds, LEASE_SHARE * lease_seconds)
    return min(max(slowly, clients / MOST_RETURNS_PER_SECOND), MOST_SECONDS)


def reconnect_within(engine: Engine) -> float:
    """The same for the clients and jobs of an engine. Of a job that has closed no round yet it expects short ones."""
    running = [job for job in engine.book.jobs.values() if job.runnable]
    return reconnect_seconds(
        clients=len(engine.clients),
        round_seconds=min((job.round_seconds for job in running), default=math.inf),
        lease_seconds=min((job.spec.rounds.lease for job in running), default=math.inf),
    )

"""Drop-outs: when a round asks further clients in place of some that gave no update, and when it has enough."""

from collections.abc import Collection, Iterable

from fedelta_server.engine._clients import Clients
from fedelta_server.engine._phases import Phase
from fedelta_server.engine._selection import draw_further, trainable
from fedelta_server.engine._state import Job


def replacements(job: Job, clients: Clients, busy: Collection[str], now: float) -> list[str]:
    """The clients that are asked now in place of some that dropped out of a job's open round: those next in its draw.

    Only idle ones, and nobody twice in one attempt. None for a job that is paused: it asks nobody any more.
    """
    round_ = job.round
    if round_ is None or round_.folding or not job.runnable or not _may_ask(job, round_.phase, now):
        return []
    idle = _others(trainable(clients, job, now), busy, round_.phase)
    return draw_further(job, idle, round_.phase.short, clients)


def surplus_reason(phase: Phase) -> str:
    """Why the clients of a phase that has enough are told to stop."""
    updates = "the update" if phase.wanted == 1 else f"the {phase.wanted} updates"
    return f"the round has {updates} that it wanted"


def _may_ask(job: Job, phase: Phase, now: float) -> bool:
    # More drop-outs than the round wants updates are not chance, but a learner that fails everywhere: that must not
    # cost every client of the fleet its time.
    few = phase.dropped <= phase.wanted
    return phase.short > 0 and few and phase.deadline - now > job.spec.rounds.lease


def _others(fit: Iterable[str], busy: Collection[str], phase: Phase) -> list[str]:
    asked = set(phase.clients)
    return [name for name in fit if name not in busy and name not in asked]

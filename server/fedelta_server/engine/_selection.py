"""Who takes part: seeded draws from the clients that can."""

import math
from collections.abc import Collection, Iterable

import blake3

from fedelta_server.engine._state import Client, Job


def fitting(clients: Iterable[Client], job: Job, now: float) -> list[str]:
    """The names of the clients that can be expected to take work of a job."""
    return [client.name for client in clients if client.fits(job, now)]


def draw_cohort(job: Job, ready: Collection[str]) -> list[str]:
    """The cohort of a job's next round; empty while too few clients are ready."""
    if len(ready) < job.ready_needed:
        return []
    return _draw(job, job.next_round, job.attempts + 1, ready)


def likely_cohort(job: Job, ready: Collection[str]) -> list[str]:
    """Whom a job whose round is open would draw for the round after it; all, where too few are ready."""
    enough = len(ready) >= job.spec.rounds.ready_needed
    return _draw(job, job.next_round + 1, 1, ready) if enough else list(ready)


def draw_evaluators(job: Job, number: int, live: Collection[str]) -> list[str]:
    """Who evaluates what a round made; empty where the job does not evaluate it."""
    every, last = job.spec.evaluate.every, number >= job.rounds_max
    if not every or (number % every and not last):
        return []
    return _lowest(job, number, 1, live, math.ceil(job.spec.evaluate.fraction * len(live)))


def ranked(job: Job, names: Iterable[str]) -> list[str]:
    """Clients in the order of the draw for the next attempt at a job's round."""
    return _in_order(job, job.next_round, job.attempts + 1, names)


def rank(seed: int, round_: int, attempt: int, name: str) -> bytes:
    """A client's place in the draw for a round; the lowest are drawn.

    It depends on nobody else, so that one missing client changes one place. A further attempt draws anew.
    """
    draw = f"{round_}" if attempt == 1 else f"{round_}.{attempt}"
    return blake3.blake3(f"{seed}/{draw}/{name}".encode()).digest()


def _draw(job: Job, number: int, attempt: int, ready: Collection[str]) -> list[str]:
    rounds = job.spec.rounds
    wanted = len(ready) if rounds.fraction is None else math.ceil(rounds.fraction * len(ready))
    return _lowest(job, number, attempt, ready, (rounds.clients or wanted) if number else 1)


def _lowest(job: Job, number: int, attempt: int, names: Collection[str], size: int) -> list[str]:
    return _in_order(job, number, attempt, names)[:size]


def _in_order(job: Job, number: int, attempt: int, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: rank(job.spec.job.seed, number, attempt, name))

"""Who takes part: seeded draws from the clients that can."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import blake3

from fedelta_server.engine._state import Client, Job


@dataclass(frozen=True)
class Cohort:
    """Who takes part in a round."""

    names: list[str]
    wanted: int
    """How many of them are to give an update, the others being there in case; 0: each of them."""


def fitting(clients: Iterable[Client], job: Job, now: float) -> list[str]:
    """The names of the clients that can be expected to take work of a job."""
    return [client.name for client in clients if client.fits(job, now)]


def draw_cohort(job: Job, ready: Collection[str]) -> Cohort | None:
    """The cohort of a job's next round. None: too few clients are ready."""
    if len(ready) < job.ready_needed:
        return None
    return _draw(job, job.next_round, job.attempts + 1, ready)


def likely_cohort(job: Job, ready: Collection[str]) -> list[str]:
    """Whom a job whose round is open would draw for the round after it; all, where too few are ready."""
    enough = len(ready) >= job.spec.rounds.ready_needed
    return _draw(job, job.next_round + 1, 1, ready).names if enough else list(ready)


def draw_evaluators(job: Job, number: int, live: Collection[str]) -> list[str]:
    """Who evaluates what a round made; empty where the job does not evaluate it."""
    every, last = job.spec.evaluate.every, number >= job.rounds_max
    if not every or (number % every and not last):
        return []
    return _lowest(job, number, 1, live, _ceil(job.spec.evaluate.fraction * len(live)))


def ranked(job: Job, names: Iterable[str]) -> list[str]:
    """Clients in the order of the draw for the next attempt at a job's round."""
    return in_order(job, job.next_round, job.attempts + 1, names)


def in_order(job: Job, number: int, attempt: int, names: Iterable[str]) -> list[str]:
    """Clients in the order of the draw for an attempt at a job's round."""
    return sorted(names, key=lambda name: rank(job.spec.job.seed, number, attempt, name))


def rank(seed: int, round_: int, attempt: int, name: str) -> bytes:
    """A client's place in the draw for a round; the lowest are drawn.

    It depends on nobody else, so that one missing client changes one place. A further attempt draws anew.
    """
    draw = f"{round_}" if attempt == 1 else f"{round_}.{attempt}"
    return blake3.blake3(f"{seed}/{draw}/{name}".encode()).digest()


def _draw(job: Job, number: int, attempt: int, ready: Collection[str]) -> Cohort:
    if not number:
        return Cohort(_lowest(job, number, attempt, ready, 1), 0)
    rounds = job.spec.rounds
    if rounds.clients is None and rounds.fraction is None:
        return Cohort(_lowest(job, number, attempt, ready, len(ready)), 0)
    wanted = rounds.clients or max(rounds.min_updates, _ceil((rounds.fraction or 1.0) * len(ready)))
    names = _lowest(job, number, attempt, ready, _ceil(rounds.over_select * wanted))
    return Cohort(names, min(wanted, len(names)))


def _ceil(product: float) -> int:
    """Rounded up, but for what is there only because 1.1 is no binary number."""
    return math.ceil(round(product, 9))


def _lowest(job: Job, number: int, attempt: int, names: Collection[str], size: int) -> list[str]:
    return in_order(job, number, attempt, names)[:size]

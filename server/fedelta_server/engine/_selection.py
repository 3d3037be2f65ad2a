"""Who takes part: seeded draws from the clients that can."""

import math
from collections.abc import Iterable

import blake3

from fedelta.config import JobSpec
from fedelta_server.engine._state import Client, Job


def fitting(clients: Iterable[Client], spec: JobSpec, now: float) -> list[Client]:
    """The live clients that offer what a job wants."""
    return [client for client in clients if client.live(now) and client.offers(spec)]


def draw_cohort(job: Job, number: int, ready: list[Client]) -> list[str]:
    """The cohort of a job's round; empty while too few clients are ready. Round 0 needs one client."""
    rounds = job.spec.rounds
    if len(ready) < (rounds.ready_needed if number else 1):
        return []
    wanted = len(ready) if rounds.fraction is None else math.ceil(rounds.fraction * len(ready))
    size = 1 if number == 0 else (rounds.clients or wanted)
    return _lowest(job.spec.job.seed, number, job.attempts + 1, ready, size)


def draw_evaluators(job: Job, number: int, live: list[Client]) -> list[str]:
    """Who evaluates what a round made; empty where the job does not evaluate it."""
    every, last = job.spec.evaluate.every, number >= job.rounds_max
    if not every or (number % every and not last):
        return []
    return _lowest(job.spec.job.seed, number, 1, live, math.ceil(job.spec.evaluate.fraction * len(live)))


def rank(seed: int, round_: int, attempt: int, name: str) -> bytes:
    """A client's place in the draw for a round; the lowest are drawn.

    It depends on nobody else, so that one missing client changes one place. A further attempt draws anew.
    """
    draw = f"{round_}" if attempt == 1 else f"{round_}.{attempt}"
    return blake3.blake3(f"{seed}/{draw}/{name}".encode()).digest()


def _lowest(seed: int, round_: int, attempt: int, clients: list[Client], size: int) -> list[str]:
    names = sorted((client.name for client in clients), key=lambda name: rank(seed, round_, attempt, name))
    return names[:size]

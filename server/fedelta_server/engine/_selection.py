"""Who takes part: seeded draws from the clients that can."""

import functools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import blake3

from fedelta.config import RoundsConfig
from fedelta.parts import Draw
from fedelta_server.engine._asking import asking, check_drawn
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._client import Client
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._state import Job


@dataclass(frozen=True)
class Cohort:
    """Who takes part in a round."""

    names: list[str]
    wanted: int
    """How many of them are to give an update, the others being there in case; 0: each of them."""
    population: int
    """How many clients they were drawn from."""


def fitting(clients: Iterable[Client], job: Job, now: float) -> list[str]:
    """The names of the clients that can be expected to take work of a job."""
    return [client.name for client in clients if client.fits(job, now)]


def trainable(clients: Iterable[Client], job: Job, now: float) -> list[str]:
    """The names of the clients that can be expected to train for a job."""
    return [client.name for client in clients if not client.evaluates_only and client.fits(job, now)]


def draw_cohort(job: Job, ready: Collection[str], clients: Clients) -> Cohort | None:
    """The cohort of a job's next round. None: too few clients are ready."""
    if len(ready) < job.ready_needed:
        return None
    return _draw(job, job.next_round, job.attempts + 1, ready, clients)


def likely_cohort(job: Job, ready: Collection[str], clients: Clients) -> list[str]:
    """Whom a job whose round is open would draw for the round after it; all, where too few are ready."""
    if len(ready) < job.plan.ready_needed:
        return list(ready)
    return _draw(job, job.next_round + 1, 1, ready, clients).names


def draw_further(job: Job, ready: Collection[str], count: int, clients: Clients) -> list[str]:
    """So many more clients for the open round of a job, or fewer; of those that are idle and were not asked yet."""
    round_ = job.round
    if round_ is None or not ready or count < 1:
        return []
    return _select(job, round_.number, round_.attempt, ready, count, count, clients)[:count]


def draw_more(job: Job, buffer: Buffer, idle: Iterable[str], population: int, clients: Clients) -> Cohort | None:
    """Whom an asynchronous job asks next, so that enough are at work of its `population`. None: nobody now.

    Each draw is another one: who was not drawn before has the same chance as anybody.
    """
    ready, size = askable(job, buffer, idle, population)
    if not size:
        return None
    names = _select(job, job.next_round, buffer.draws + 1, ready, size, size, clients)[:size]
    return Cohort(names, 0, population)


def askable(job: Job, buffer: Buffer, idle: Iterable[str], population: int) -> tuple[list[str], int]:
    """Those that an asynchronous job can ask next, and how many of them it wants; 0: nobody now."""
    ready = [name for name in idle if name not in buffer.left_out]
    wanted = _at_work(job.spec.rounds, population)
    if len(ready) < job.ready_needed or not buffer.short(wanted):
        return ready, 0
    return ready, min(wanted - len(buffer.open), len(ready))


def likely_more(job: Job, buffer: Buffer, idle: Collection[str], population: int, clients: Clients) -> list[str]:
    """Whom an asynchronous job would ask next that makes a version now."""
    size = min(_at_work(job.spec.rounds, population) - len(buffer.open), len(idle))
    return _select(job, job.next_round + 1, 1, idle, size, size, clients)[:size] if size > 0 else []


def draw_evaluators(job: Job, number: int, live: Collection[str]) -> list[str]:
    """Who evaluates a version."""
    return in_order(job, number, 1, live)[: _ceil(job.spec.evaluate.fraction * len(live))]


def ranked(job: Job, names: Iterable[str]) -> list[str]:
    """Clients in the order of a uniform draw for the next attempt at a job's round."""
    return in_order(job, job.next_round, job.attempts + 1, names)


def in_order(job: Job, number: int, attempt: int, names: Iterable[str]) -> list[str]:
    """Clients in the order of a uniform draw for an attempt at a job's round."""
    return sorted(names, key=lambda name: rank(job.spec.job.seed, number, attempt, name))


def rank(seed: int, round_: int, attempt: int, name: str) -> bytes:
    """A client's place in a uniform draw for a round; the lowest are drawn.

    It depends on nobody else, so that one missing client changes one place. A further attempt draws anew.
    """
    draw = f"{round_}" if attempt == 1 else f"{round_}.{attempt}"
    return blake3.blake3(f"{seed}/{draw}/{name}".encode()).digest()


def uniform(seed: int, round_: int, attempt: int, name: str) -> float:
    """The same place as a number in [0, 1)."""
    return (int.from_bytes(rank(seed, round_, attempt, name)[:8]) >> 11) * 2.0**-53


def _draw(job: Job, number: int, attempt: int, ready: Collection[str], clients: Clients) -> Cohort:
    if not number:
        return Cohort(in_order(job, number, attempt, ready)[:1], 0, len(ready))
    rounds = job.spec.rounds
    if rounds.clients is None and rounds.fraction is None:
        names = _select(job, number, attempt, ready, len(ready), len(ready), clients)
        return Cohort(names, 0, len(ready))
    wanted = rounds.clients or max(job.plan.least_updates, _ceil((rounds.fraction or 1.0) * len(ready)))
    names = _select(job, number, attempt, ready, wanted, _ceil(rounds.over_select * wanted), clients)
    return Cohort(names, min(wanted, len(names)), len(ready))


def _at_work(rounds: RoundsConfig, population: int) -> int:
    """How many clients of an asynchronous job are to be at work at any time."""
    if rounds.clients is not None:
        return rounds.clients
    return max(1, _ceil((rounds.fraction or 1.0) * population))


def _select(
    job: Job, number: int, attempt: int, ready: Collection[str], wanted: int, size: int, clients: Clients
) -> list[str]:
    """Whom the plan's selector chooses."""
    draw = Draw(
        round=number,
        rounds=job.rounds_max,
        wanted=wanted,
        size=size,
        uniform=functools.partial(uniform, job.spec.job.seed, number, attempt),
    )
    candidates = [job.past.candidate(name, clients.of_name(name).labels) for name in sorted(ready)]
    with asking(job, job.spec.selector):
        names = list(job.plan.selector.select(candidates, draw))
        check_drawn(names, ready)
    return names


def _ceil(product: float) -> int:
    """Rounded up, but for what is there only because 1.1 is no binary number."""
    return math.ceil(round(product, 9))

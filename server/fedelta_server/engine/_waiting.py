"""What a job waits for, in words."""

from collections.abc import Collection, Iterable, Mapping

from fedelta._words import plural
from fedelta_server.engine._client import Client
from fedelta_server.engine._selection import trainable
from fedelta_server.engine._state import Job

_MOST_NAMED = 5


def missing_clients(job: Job, clients: Iterable[Client], busy: Collection[str], now: float) -> str:
    """The clients that a job waits for; empty where it waits for none, or goes on with those that it has."""
    if not job.waits or job.at_work:
        return ""
    fit = trainable(clients, job, now)
    ready = sum(name not in busy for name in fit)
    if ready >= job.ready_needed:
        return ""
    occupied = f", {len(fit) - ready} busy" if ready < len(fit) else ""
    return f"{_wanted(job)}; {ready} ready{occupied}"


def open_evaluations(job: Job) -> str:
    """The evaluations that a job waits for before it is finished or goes on; empty where it waits for none."""
    if job.state.ended or not (job.complete or job.awaits_metrics) or not job.evaluations:
        return ""
    phases = [each.phase for each in job.evaluations.values()]
    versions = ", ".join(map(str, sorted(job.evaluations)))
    asked, open_ = sum(len(each.clients) for each in phases), sum(len(each.open) for each in phases)
    return f"the evaluation of version {versions}; {asked - open_} of {plural(asked, 'client')} done"


def refusals(job: Job, clients: Iterable[Client], now: float) -> dict[str, str]:
    """The clients that would fit a job but do not take part in it, each with the reason."""
    found = ((client.name, client.declines(job.id, now)) for client in clients if client.offers(job.spec))
    return {name: decline.reason for name, decline in found if decline is not None}


def describe_refusals(reasons: Mapping[str, str]) -> str:
    """The refusals of a job in words, the first few by name."""
    named = [f"{name} declined: {reason}" for name, reason in list(reasons.items())[:_MOST_NAMED]]
    more = len(reasons) - len(named)
    return "; ".join([*named, f"{more} more declined"] if more else named)


def _wanted(job: Job) -> str:
    wanted = job.spec.job
    labels = f" with {', '.join(wanted.labels)}" if wanted.labels else ""
    offers = "offer" if job.ready_needed > 1 else "offers"
    learner = f" that {offers} learner {wanted.learner!r}" if wanted.learner else ""
    return f"{plural(job.ready_needed, 'client')}{labels}{learner}"

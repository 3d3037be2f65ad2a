"""The plan of a job: its parts, made from what the job file names and checked against each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fedelta._words import plural
from fedelta.config import JobSpec, Part
from fedelta.errors import ConfigError, FedeltaError
from fedelta.local import KNOWN_FACTS
from fedelta.parts import (
    Aggregator,
    LocalTraining,
    Needs,
    Selector,
    ServerOptimizer,
    Sizing,
    StopRule,
    build,
    check,
    requires,
    synchronous,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parts of a job. Immutable; the same job file gives an equal one."""

    selector: Selector
    local: LocalTraining
    aggregator: Aggregator
    optimizer: ServerOptimizer
    stop: tuple[StopRule, ...]
    least_updates: int
    """So many updates are needed for a version: by the job file, and by the aggregator."""
    ready_needed: int
    """So many clients must be ready to open a round of training."""

    @property
    def reads_metrics(self) -> bool:
        """Whether something decides by metrics before a round."""
        return self.selector.reads_metrics or any(rule.reads_metrics for rule in self.stop)


def plan_of(job: JobSpec) -> Plan:
    """Makes the parts of a job. Raises `ConfigError`, naming the key or both parts and the remedy.

    That is where a part is not installed, where a parameter is wrong, and where parts cannot work together.
    """
    try:
        plan = _made(job)
        for each in _CHECKS:
            each(plan, job)
    except FedeltaError:
        raise
    except Exception as error:  # a third party's code
        raise ConfigError(f"the job's parts do not work: {error!r}") from error
    return plan


def _made(job: JobSpec) -> Plan:
    aggregator: Aggregator = build(job.aggregator)
    least = max(job.rounds.buffer or job.rounds.min_updates, aggregator.least)
    return Plan(
        selector=build(job.selector),
        local=build(job.local),
        aggregator=aggregator,
        optimizer=build(job.server_optimizer),
        stop=tuple(build(part, f"stop[{index}]") for index, part in enumerate(job.stop)),
        least_updates=least,
        ready_needed=job.rounds.ready_needed if job.rounds.buffer else max(job.rounds.ready_needed, least),
    )


def wanted_facts(plan: Plan, job: JobSpec) -> dict[str, str]:
    """The facts that an update must bring, each with who needs it."""
    return {
        **dict.fromkeys(sorted(plan.local.facts), f"local training {job.local.name!r}"),
        **dict.fromkeys(sorted(plan.aggregator.facts), f"aggregator {job.aggregator.name!r}"),
    }


def _parts(plan: Plan, job: JobSpec) -> Iterator[tuple[Part, Any]]:
    """All parts, each with how the job file names it."""
    yield job.selector, plan.selector
    yield job.local, plan.local
    yield job.aggregator, plan.aggregator
    yield job.server_optimizer, plan.optimizer
    yield from zip(job.stop, plan.stop, strict=True)


def _called(part: Part) -> str:
    return f"{part.SLOT} {part.name!r}"


def _check_required(plan: Plan, job: JobSpec) -> None:
    for part, made in _parts(plan, job):
        for slot, names in requires(made).items():
            other: Part = getattr(job, slot)
            if other.name not in names:
                raise ConfigError(
                    f"{_called(part)} does not work with {_called(other)}; "
                    f"say [{slot}] name = {' or '.join(map(repr, names))}, or take another {part.SLOT}"
                )


def _check_shared(plan: Plan, job: JobSpec) -> None:
    if plan.local.shared and plan.aggregator.needs is not Needs.SUM:
        raise ConfigError(
            f"{_called(job.local)} sends more tensors than the model's, which are averaged, and "
            f"{_called(job.aggregator)} judges each update by itself; take an aggregator that only sums, such as 'mean'"
        )


def _check_facts(plan: Plan, job: JobSpec) -> None:
    for part, facts in ((job.aggregator, plan.aggregator.facts), (job.local, plan.local.facts)):
        missing = sorted(facts - KNOWN_FACTS)
        if missing:
            raise ConfigError(
                f"{_called(part)} wants to know {' and '.join(map(repr, missing))} of each update; clients can tell "
                f"{' and '.join(map(repr, sorted(KNOWN_FACTS)))}"
            )


def _check_size(plan: Plan, job: JobSpec) -> None:
    rounds = job.rounds
    if plan.selector.sizing is Sizing.ROUNDS:
        return
    given = {"clients": rounds.clients, "fraction": rounds.fraction, "buffer": rounds.buffer}
    named = [f"rounds.{key}" for key, value in given.items() if value is not None]
    if rounds.over_select > 1:
        named.append("rounds.over_select")
    if named:
        raise ConfigError(
            f"{_called(job.selector)} says itself how many clients train, and {named[0]} does too; drop one of them"
        )
    if plan.selector.sizing is Sizing.CHANCE and plan.least_updates > 1:
        who = _called(job.aggregator) if plan.aggregator.least > 1 else "rounds.min_updates"
        raise ConfigError(
            f"{_called(job.selector)} may draw a single client, and {who} needs {plan.least_updates} updates; "
            "take another selector"
        )


def _check_least(plan: Plan, job: JobSpec) -> None:
    """Rounds can get as many updates as the aggregator needs."""
    least = plan.aggregator.least
    for key in ("buffer", "clients", "min_clients"):
        limit = getattr(job.rounds, key)
        if limit is not None and limit < least and (key == "buffer" or job.rounds.buffer is None):
            raise ConfigError(
                f"{_called(job.aggregator)} needs {plural(least, 'update')} at least with these parameters, and "
                f"rounds.{key} = {limit}; set it to {least} or more, or take another aggregator"
            )


def _check_synchronous(plan: Plan, job: JobSpec) -> None:
    for part, made in _parts(plan, job):
        if job.rounds.buffer is not None and synchronous(made):
            raise ConfigError(
                f"{_called(part)} works in synchronous rounds only, and rounds.buffer = {job.rounds.buffer} makes them "
                f"asynchronous; drop rounds.buffer, or take another {part.SLOT}"
            )


def _check_metrics(plan: Plan, job: JobSpec) -> None:
    for part, rule in zip(job.stop, plan.stop, strict=True):
        if rule.reads_metrics and not job.evaluate.every:
            raise ConfigError(
                f"{_called(part)} decides by metrics, and evaluate.every = 0 lets nobody evaluate; set evaluate.every"
            )


def _check_each(plan: Plan, job: JobSpec) -> None:
    for _, made in _parts(plan, job):
        check(made, job)


_CHECKS: tuple[Callable[[Plan, JobSpec], None], ...] = (
    _check_required,
    _check_shared,
    _check_facts,
    _check_size,
    _check_least,
    _check_synchronous,
    _check_metrics,
    _check_each,
)

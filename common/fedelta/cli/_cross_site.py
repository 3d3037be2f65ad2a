"""What `fedelta job evaluate` prints: clients by versions, one metric."""

from collections.abc import Iterator, Sequence

from fedelta.admin import EvaluationInfo, Outcome, Participation
from fedelta.errors import NotFoundError

_USUAL = ("accuracy", "loss")
"""The metric that is shown where none is named, in this order."""


def chosen_metric(evaluations: Sequence[EvaluationInfo], wanted: str | None) -> str:
    """The metric to show. Raises `NotFoundError` where no client reported it."""
    reported = sorted({name for each in evaluations for part in each.clients for name in part.metrics})
    if wanted is None:
        return next((name for name in _USUAL if name in reported), reported[0] if reported else "")
    if wanted not in reported:
        raise NotFoundError(f"no client reported {wanted!r}, but {', '.join(reported) or 'nothing'}")
    return wanted


def columns(evaluations: Sequence[EvaluationInfo], metric: str) -> tuple[str, ...]:
    """The columns of the table: clients, then each version."""
    return (metric or "client", *(f"version {each.version}" for each in evaluations))


def rows(evaluations: Sequence[EvaluationInfo], metric: str) -> Iterator[tuple[str, ...]]:
    """A row for each client by name, those that evaluate only at the end, and one for the mean over the others."""
    parts = [{part.client: part for part in each.clients} for each in evaluations]
    names = {part.client: part.central for each in parts for part in each.values()}
    for name in sorted(names, key=lambda name: (names[name], name)):
        yield name, *(_cell(each.get(name), metric) for each in parts)
    yield "mean of clients", *(_value(each.metrics.get(metric)) for each in evaluations)


def _cell(part: Participation | None, metric: str) -> str:
    if part is None:
        return ""
    return _value(part.metrics.get(metric)) if part.outcome is Outcome.ACCEPTED else str(part.outcome)


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

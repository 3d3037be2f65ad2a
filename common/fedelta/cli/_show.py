"""What `fedelta job list` and `fedelta job show` print for people."""

import statistics
import textwrap
from collections.abc import Iterable, Iterator

from fedelta._printable import printable
from fedelta._words import averages, grouped, short, size, span, when
from fedelta.admin import EvaluationInfo, JobInfo, Outcome, Participation, RoundInfo
from fedelta.cli._describe import counted, round_line
from fedelta.cli._output import aligned

_LAST = 5
"""So many evaluations are shown with their spread; --json has all."""
_CLASSES = 50
"""So many classes of a metric."""
_SPREAD_COLUMNS = ("version", "metric", "mean", "min", "median", "p90", "max", "central", "clients")

LIST_COLUMNS = ("job", "state", "rounds", "submitted", "why")


def list_row(info: JobInfo) -> tuple[str, ...]:
    """A job in a list."""
    rounds = f"{info.rounds_done}/{info.rounds_max}"
    return info.id, info.state, rounds, when(info.submitted), printable(info.reason or info.waiting_for)


def job_lines(info: JobInfo) -> Iterator[str]:
    """A job and its rounds."""
    why = info.reason or (f"waiting for {info.waiting_for}" if info.waiting_for else "")
    yield printable(f"{info.id}: {info.state}" + (f" ({why})" if why else ""))
    for name, value in _facts(info):
        yield f"{name:<9}  {value}"
    for closed in info.rounds:
        yield from _round_lines(closed, best=closed.number == info.best_version)
    yield from evaluation_lines(info)


def _facts(info: JobInfo) -> Iterator[tuple[str, str]]:
    yield "submitted", when(info.submitted)
    if info.origin:
        yield "starts", f"from {info.origin}"
    yield "rounds", f"{info.rounds_done} of {info.rounds_max}{_pace(info)}"
    if info.rounds:
        up = sum(each.bytes_up for each in info.rounds)
        down = sum(each.bytes_down for each in info.rounds) + sum(each.bytes_down for each in info.evaluations)
        yield "traffic", f"{size(up)} up  {size(down)} down"
    if info.rounds or info.initial_digest:
        yield "model", _version(info, info.rounds[-1].number if info.rounds else 0)
    if info.best_version is not None:
        yield "best", _version(info, info.best_version)


def _pace(info: JobInfo) -> str:
    seconds = [closed.seconds for closed in info.rounds]
    return f", {span(sum(seconds))} in all, {span(statistics.median(seconds))} each" if seconds else ""


def _version(info: JobInfo, number: int) -> str:
    made = next((closed for closed in info.rounds if closed.number == number), None)
    digest = made.digest if made else info.initial_digest
    return "  ".join(part for part in (f"version {number}", short(digest), results(info, number)) if part)


def results(info: JobInfo, version: int) -> str:
    """What the evaluation of a version gave, in one line; empty: it has none."""
    found = info.evaluation(version)
    return printable(averages(found.metrics, found.central)) if found is not None else ""


def _round_lines(closed: RoundInfo, *, best: bool) -> Iterator[str]:
    details = (f"changed by {closed.update_norm:.3g}" if closed.update_norm else "", _staleness(closed), "best" * best)
    yield printable("  ".join(part for part in (f"{closed.number:>6}", round_line(closed), *details) if part))
    yield from _reasons(closed.clients)


def _staleness(closed: RoundInfo) -> str:
    """How many versions old the updates of an asynchronous round were."""
    found = [part.staleness for part in closed.clients if part.outcome is Outcome.ACCEPTED]
    least, most = min(found, default=0), max(found, default=0)
    return f"staleness {least} to {most}" if least < most else f"staleness {most}" * (most > 0)


def _reasons(parts: Iterable[Participation], where: str = "") -> Iterator[str]:
    for part in parts:
        if part.reason:
            yield printable(f"        {where}{part.client} {part.outcome} ({part.phase}): {part.reason}")


def evaluation_lines(info: JobInfo) -> Iterator[str]:
    """The last evaluations and that of the best version: each metric with its spread over the clients."""
    last = info.evaluations[-_LAST:]
    shown = [each for each in info.evaluations if each.version == info.best_version or each in last]
    rows = [row for each in shown for row in _spread_rows(each)]
    if rows:
        yield "evaluations" + (f", the last {_LAST} and the best" if len(shown) < len(info.evaluations) else "")
        yield from (f"  {line}" for line in aligned([_SPREAD_COLUMNS, *rows]))
    if shown:
        yield from _class_lines(shown[-1])
    for each in shown:
        yield from _reasons(each.clients, f"version {each.version}: ")


def _spread_rows(evaluation: EvaluationInfo) -> Iterator[tuple[str, ...]]:
    """A row for each metric, but for those of classes."""
    metrics, central = grouped(evaluation.metrics)[0], grouped(evaluation.central)[0]
    version, clients = str(evaluation.version), counted(part for part in evaluation.clients if not part.central)
    for name in sorted({*metrics, *central}):
        spread = evaluation.spread.get(name)
        values = (spread.min, spread.median, spread.p90, spread.max) if spread else (None,) * 4
        cells = map(_cell, (metrics.get(name), *values, central.get(name)))
        yield version, printable(name), *cells, clients
        version = clients = ""


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _class_lines(evaluation: EvaluationInfo) -> Iterator[str]:
    """What is measured by class, such as recall/3: all classes of a metric in a few lines."""
    for of, metrics in (("", evaluation.metrics), ("central ", evaluation.central)):
        for name, values in grouped(metrics)[1].items():
            words = [f"{member}: {value:.4g}" for member, value in values.items()]
            more = f", and {len(words) - _CLASSES} more" if len(words) > _CLASSES else ""
            text = printable(f"{of}{name} of version {evaluation.version}: {', '.join(words[:_CLASSES])}{more}")
            yield from textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")

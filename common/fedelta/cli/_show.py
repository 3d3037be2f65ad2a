"""What `fedelta job list` and `fedelta job show` print for people."""

import statistics
from collections.abc import Iterator

from fedelta._printable import printable
from fedelta._words import numbers, short, size, span, when
from fedelta.admin import JobInfo, RoundInfo
from fedelta.cli._describe import round_line

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


def _facts(info: JobInfo) -> Iterator[tuple[str, str]]:
    yield "submitted", when(info.submitted)
    if info.origin:
        yield "starts", f"from {info.origin}"
    yield "rounds", f"{info.rounds_done} of {info.rounds_max}{_pace(info)}"
    if info.rounds:
        up, down = sum(each.bytes_up for each in info.rounds), sum(each.bytes_down for each in info.rounds)
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
    digest, metrics = (made.digest, made.metrics) if made else (info.initial_digest, {})
    return "  ".join(part for part in (f"version {number}", short(digest), numbers(metrics)) if part)


def _round_lines(closed: RoundInfo, *, best: bool) -> Iterator[str]:
    yield printable(f"{closed.number:>6}  {round_line(closed)}") + ("  best" if best else "")
    for part in closed.clients:
        if part.reason:
            yield printable(f"        {part.client} {part.outcome} ({part.phase}): {part.reason}")

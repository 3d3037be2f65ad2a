"""The picture of a job that is being followed: drawn from a `Progress`, from nothing else."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedelta._printable import printable
from fedelta._words import averages, plural, size, span
from fedelta.admin import ClientState, JobState, Outcome, Phase
from fedelta.cli._describe import DOING
from fedelta.cli._progress import OpenPhase, Progress

_OTHER_LINES = 11
"""Lines of the picture that are not clients, at most."""
_MOST_CLIENTS = 12
_MOST_EVALUATIONS = 2
_LONGEST_NAME = 24
_LONGEST_BAR = 30
_SHORTEST_BAR = 8
_GAP = 2

_STYLES = {"at work": "", "waiting": "dim", "without result": "red", "done": "green"}
"""The kinds of rows, in their order, and how each is drawn."""


@dataclass(frozen=True)
class Row:
    """A client in the phase that is shown."""

    client: str
    kind: str
    """A key of `_STYLES`."""
    share: float
    words: str


def picture(progress: Progress, now: datetime, *, width: int, height: int) -> RenderableType:
    """The job at this moment, in no more lines than fit."""
    lines: list[RenderableType] = [_headline(progress, now, width)]
    if progress.reason:
        lines.append(_text(progress.reason, "yellow"))
    if progress.open is None and progress.waiting_for:
        lines.append(_text(f"waiting for {progress.waiting_for}", "yellow"))
    if progress.shown is not None:
        lines.append(_text(_phase_line(progress.shown, now)))
        lines += _clients(rows(progress), width, max(1, min(_MOST_CLIENTS, height - _OTHER_LINES)))
    lines += [_text(line, "dim") for line in _beside(progress, now)]
    lines += [_text(line, "dim") for line in _declined(progress)]
    lines += [_text(line) for line in _results(progress)]
    if progress.away_since is not None:
        lines.append(_text(_away(progress.away_since, now), "yellow"))
    return Group(*lines)


def _headline(progress: Progress, now: datetime, width: int) -> RenderableType:
    words, pace = [text for text in _headwords(progress) if text], _text(_pace(progress, now), "dim")
    cells: list[RenderableType] = [*words, pace]
    room = width - sum(text.cell_len + _GAP for text in (*words, pace))
    if progress.rounds_max and room >= _SHORTEST_BAR:
        bar = ProgressBar(total=progress.rounds_max, completed=progress.rounds_done, width=min(_LONGEST_BAR, room))
        cells.insert(-1, bar)
    elif room < 0:
        return Text(" " * _GAP, no_wrap=True, overflow="ellipsis").join([*words, pace])
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_row(*cells)
    return grid


def _headwords(progress: Progress) -> Iterator[Text]:
    yield _text(progress.job, "bold")
    yield _text("" if progress.state is JobState.RUNNING else str(progress.state), "yellow")
    if progress.rounds_max:
        opened = progress.open.round if progress.open else 0
        yield _text(f"round {opened or progress.rounds_done} of {progress.rounds_max}")


def _pace(progress: Progress, now: datetime) -> str:
    a_round, left = progress.round_seconds(), progress.seconds_left(now)
    pace = f"{span(a_round)} a round" if a_round is not None else ""
    return f"{pace}, about {_whole(left)} left" if left is not None and left >= 1 else pace


def _whole(seconds: float) -> str:
    """Without fractions: what is redrawn several times a second is not to flicker."""
    return span(seconds) if seconds >= 60 else f"{max(0.0, seconds):.0f} s"


def _phase_line(phase: OpenPhase, now: datetime) -> str:
    again = f", attempt {phase.attempt}" if phase.attempt > 1 else ""
    done = f"{len(phase.ended)} of {plural(len(phase.clients), 'client')} done"
    of = f" version {phase.round}" if phase.phase is Phase.EVALUATE else ""
    doing = "averaging" if phase.complete and phase.phase is Phase.TRAIN else f"{DOING[phase.phase]}{of}: {done}"
    return f"{doing}, {_whole((now - phase.since).total_seconds())}{again}"


def _beside(progress: Progress, now: datetime) -> Iterator[str]:
    """The evaluations that are under way beside what is shown; the newest of many."""
    found = [progress.evaluations[version] for version in sorted(progress.evaluations, reverse=True)]
    rest = [phase for phase in found if phase is not progress.shown]
    # A line that says "and 1 more" could as well be that one.
    shown = rest if len(rest) <= _MOST_EVALUATIONS else rest[: _MOST_EVALUATIONS - 1]
    yield from (_phase_line(phase, now) for phase in shown)
    if rest[len(shown) :]:
        yield f"and {plural(len(rest) - len(shown), 'more evaluation')}"


def rows(progress: Progress) -> list[Row]:
    """The clients of the phase that is shown: first those that are waited for, each kind by name."""
    if progress.shown is None:
        return []
    found = [_row(progress, progress.shown, name) for name in progress.shown.clients]
    return sorted(found, key=lambda row: (list(_STYLES).index(row.kind), row.client))


def _row(progress: Progress, phase: OpenPhase, name: str) -> Row:
    part = phase.ended.get(name)
    if part is not None and part.outcome is Outcome.ACCEPTED:
        return Row(name, "done", 1.0, f"done, {span(part.seconds)}")
    if part is not None:
        return Row(name, "without result", 0.0, f"{part.outcome}: {part.reason}" if part.reason else str(part.outcome))
    client = progress.clients.get(name)
    if client is None:
        return Row(name, "waiting", 0.0, "")
    if client.state is ClientState.GONE:
        return Row(name, "waiting", 0.0, "not heard of")
    elsewhere = _elsewhere(progress.job, phase, next(iter(client.assignments), ""))
    if elsewhere:
        return Row(name, "waiting", 0.0, elsewhere)
    return Row(name, "at work", client.progress, f"{client.progress:.0%}" if client.progress else "at work")


def _elsewhere(job: str, phase: OpenPhase, assignment: str) -> str:
    """What else a client works on, by the id of its assignment; empty: on its part of the phase, or on nothing."""
    if not assignment.startswith(f"{job}."):
        return "works on another job" if assignment else ""
    number, _, kind, *_ = assignment.removeprefix(f"{job}.").split(".")
    other = kind == Phase.EVALUATE and (kind, number) != (phase.phase, str(phase.round))
    return f"evaluates version {number}" if other else ""


def _clients(found: Sequence[Row], width: int, most: int) -> Iterator[RenderableType]:
    # A line that says "and 1 more" could as well be that one.
    shown = found if len(found) <= most + 1 else found[:most]
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    name = min(_LONGEST_NAME, max(len(row.client) for row in shown)) + _GAP
    bar = min(_LONGEST_BAR, (width - name) // 3)
    for column in (name, bar, width - name - bar - 2 * _GAP):
        grid.add_column(no_wrap=True, overflow="ellipsis", width=max(1, column))
    for row in shown:
        drawn = ProgressBar(total=1.0, completed=row.share, width=bar)
        grid.add_row(_text(f"{' ' * _GAP}{row.client}"), drawn, _text(row.words, _STYLES[row.kind]))
    yield grid
    if rest := found[len(shown) :]:
        kinds = Counter(row.kind for row in rest)
        counted = ", ".join(f"{kinds[kind]} {kind}" for kind in _STYLES if kinds[kind])
        yield _text(f"{' ' * _GAP}and {len(rest)} more: {counted}", "dim")


def _declined(progress: Progress) -> Iterator[str]:
    found = progress.declined()
    if found:
        names = ", ".join(f"{name} ({reason})" if reason else name for name, reason in sorted(found.items()))
        yield f"declined by {names}"


def _results(progress: Progress) -> Iterator[str]:
    if progress.metrics or progress.central:
        of = f"version {progress.evaluated}: " if progress.evaluated is not None else ""
        yield f"{of}{averages(progress.metrics, progress.central)}"
    if progress.bytes_up or progress.bytes_down:
        yield f"{size(progress.bytes_up)} up  {size(progress.bytes_down)} down"


def _away(since: datetime, now: datetime) -> str:
    return f"the coordinator has not answered for {(now - since).total_seconds():.0f} s; waiting until it does"


def _text(words: str, style: str = "") -> Text:
    return Text(printable(words), style=style, no_wrap=True, overflow="ellipsis")

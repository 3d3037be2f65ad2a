"""What happened to a job, in one line each."""

import functools
from collections.abc import Iterable
from typing import Any

from fedelta._printable import printable
from fedelta._words import averages, numbers, plural, size, span
from fedelta.admin import (
    EvaluationClosed,
    JobExtended,
    Outcome,
    Participation,
    ParticipationEnded,
    Phase,
    PhaseExtended,
    PhaseOpened,
    RoundClosed,
    RoundFailed,
    RoundInfo,
    StateChanged,
    VersionMade,
)

DOING = {
    Phase.TRAIN: "training",
    Phase.EVALUATE: "evaluating",
    Phase.INITIALIZE: "making the initial model",
    Phase.UNKNOWN: "working",
}
"""What the clients of a phase do."""


def describe(what: Any) -> str:
    """One line about something that happened; empty where nobody needs to know."""
    return printable(_describe(what))


@functools.singledispatch
def _describe(what: Any) -> str:
    del what
    return ""


@_describe.register
def _state_changed(what: StateChanged) -> str:
    return f"{what.state}: {what.reason}" if what.reason else str(what.state)


def _where(number: int, phase: Phase) -> str:
    """What a phase belongs to: evaluations are of versions, whatever round is open by then."""
    if phase is Phase.EVALUATE:
        return f"version {number}: "
    return f"round {number}: " if number else ""


@_describe.register
def _phase_opened(what: PhaseOpened) -> str:
    again = f" (attempt {what.attempt})" if what.attempt > 1 else ""
    return f"{_where(what.round, what.phase)}{DOING[what.phase]} on {plural(len(what.clients), 'client')}{again}"


@_describe.register
def _phase_extended(what: PhaseExtended) -> str:
    return f"{_where(what.round, what.phase)}in place of those that dropped out: {', '.join(what.clients)}"


@_describe.register
def _participation_ended(what: ParticipationEnded) -> str:
    part = what.participation
    if part.outcome in (Outcome.ACCEPTED, Outcome.RELEASED):
        return ""
    where = _where(what.round, part.phase)
    return f"{where}{part.client} {part.outcome}" + (f": {part.reason}" if part.reason else "")


@_describe.register
def _version_made(what: VersionMade) -> str:
    # Later versions are told with their rounds.
    return "" if what.version else f"initial model {what.digest[:12]} ({size(what.length)})"


@_describe.register
def _job_extended(what: JobExtended) -> str:
    return f"the job has {plural(what.rounds_max, 'round')} now"


@_describe.register
def _round_failed(what: RoundFailed) -> str:
    return f"round {what.round}: attempt {what.attempt} failed: {what.reason}"


@_describe.register
def _round_closed(what: RoundClosed) -> str:
    return f"round {what.round.number}: {round_line(what.round)}"


@_describe.register
def _evaluation_closed(what: EvaluationClosed) -> str:
    found = what.evaluation
    clients = counted(part for part in found.clients if not part.central)
    parts = [clients, averages(found.metrics, found.central), span(found.seconds)]
    return f"version {found.version}: {'  '.join(part for part in parts if part)}"


def counted(parts: Iterable[Participation]) -> str:
    """How many clients gave a result, of those that were asked: "3 of 4 clients"."""
    asked = list(parts)
    count = sum(part.outcome is Outcome.ACCEPTED for part in asked)
    return f"{count} of {plural(len(asked), 'client')}"


def round_line(closed: RoundInfo) -> str:
    """A closed round in one line."""
    trained = (part for part in closed.clients if part.phase is Phase.TRAIN)
    traffic = f"{size(closed.bytes_up)} up  {size(closed.bytes_down)} down"
    again = f"attempt {closed.attempts}" if closed.attempts > 1 else ""
    metrics = numbers(closed.metrics or closed.train_metrics)
    parts = [counted(trained), again, metrics, traffic]
    return "  ".join(part for part in [*parts, span(closed.seconds)] if part)

"""What happened to a job, in one line each."""

import functools
from typing import Any

from fedelta._printable import printable
from fedelta._words import numbers, plural, size, span
from fedelta.admin import (
    JobExtended,
    Outcome,
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


@_describe.register
def _phase_opened(what: PhaseOpened) -> str:
    again = f" (attempt {what.attempt})" if what.attempt > 1 else ""
    where = f"round {what.round}: " if what.round else ""
    return f"{where}{DOING[what.phase]} on {plural(len(what.clients), 'client')}{again}"


@_describe.register
def _phase_extended(what: PhaseExtended) -> str:
    return f"round {what.round}: in place of those that dropped out: {', '.join(what.clients)}"


@_describe.register
def _participation_ended(what: ParticipationEnded) -> str:
    part = what.participation
    if part.outcome in (Outcome.ACCEPTED, Outcome.RELEASED):
        return ""
    return f"round {what.round}: {part.client} {part.outcome}" + (f": {part.reason}" if part.reason else "")


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


def round_line(closed: RoundInfo) -> str:
    """A closed round in one line."""
    trained = [part for part in closed.clients if part.phase is Phase.TRAIN]
    counted = sum(part.outcome is Outcome.ACCEPTED for part in trained)
    traffic = f"{size(closed.bytes_up)} up  {size(closed.bytes_down)} down"
    again = f"attempt {closed.attempts}" if closed.attempts > 1 else ""
    metrics = numbers(closed.metrics or closed.train_metrics)
    parts = [f"{counted} of {plural(len(trained), 'client')}", again, metrics, traffic]
    return "  ".join(part for part in [*parts, span(closed.seconds)] if part)

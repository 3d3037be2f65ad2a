"""What the coordinator's log says of jobs: each committed record in a line, with the ids it is about.

At the usual level that is a line for each round and for each change of a job's state, and one for each client whose
part did not count; -v adds what leads there.
"""

import logging
from functools import singledispatch

from fedelta._logs import about
from fedelta._words import numbers, plural, size, span
from fedelta_server.engine import records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind

_log = logging.getLogger("fedelta_server.jobs")

_EXPECTED = (Outcome.ACCEPTED, Outcome.CANCELLED, Outcome.RELEASED)
"""What is told only on request: it is the rule, or it is of one's own doing."""


def tell(record: records.Record) -> None:
    """Logs a record. It is a fact by now: committed."""
    with about(job=record.job, round=_round(record), client=_client(record)):
        _log.log(_level(record), "%s", words(record))


def _round(record: records.Record) -> int | None:
    match record:
        case records.PhaseOpened() | records.PhaseExtended() | records.ParticipationEnded() | records.RoundFailed():
            return record.round
        case records.RoundClosed():
            return record.number
        case records.VersionMade() | records.EvaluationClosed():
            return record.version
    return None


def _client(record: records.Record) -> str:
    return record.participation.client if isinstance(record, records.ParticipationEnded) else ""


def _level(record: records.Record) -> int:
    match record:
        case records.RoundFailed():
            return logging.WARNING
        case records.JobStateChanged(state=JobState.FAILED):
            return logging.ERROR
        case records.PhaseOpened() | records.PhaseExtended() | records.VersionsPruned():
            return logging.DEBUG
        case records.VersionMade() if record.version:
            return logging.DEBUG
        case records.ParticipationEnded() if record.participation.outcome in _EXPECTED:
            return logging.DEBUG
    return logging.INFO


@singledispatch
def words(record: records.Record) -> str:
    """A record in words."""
    raise TypeError(f"no words for {type(record).__name__}")


@words.register
def _(record: records.JobSubmitted) -> str:
    return f"submitted, starts from {record.origin}" if record.origin else "submitted"


@words.register
def _(record: records.JobStateChanged) -> str:
    return f"{record.state}: {record.reason}" if record.reason else str(record.state)


@words.register
def _(record: records.JobExtended) -> str:
    return f"{plural(record.rounds_max, 'round')} in all from now on"


@words.register
def _(record: records.PhaseOpened) -> str:
    again = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"{record.phase} opened for {plural(len(record.clients), 'client')}{again}: {', '.join(record.clients)}"


@words.register
def _(record: records.PhaseExtended) -> str:
    return f"{record.phase} in place of those that dropped out: {', '.join(record.clients)}"


@words.register
def _(record: records.ParticipationEnded) -> str:
    part = record.participation
    if part.outcome is Outcome.ACCEPTED:
        return f"{part.phase} accepted: {plural(part.examples, 'example')} in {span(part.seconds)}"
    return f"{part.phase} {part.outcome}" + (f": {part.reason}" if part.reason else "")


@words.register
def _(record: records.VersionMade) -> str:
    return f"version {record.version} made, {record.digest.hex()[:12]}, {size(record.length)}"


@words.register
def _(record: records.VersionsPruned) -> str:
    return f"{plural(len(record.versions), 'version')} pruned: {', '.join(map(str, record.versions))}"


@words.register
def _(record: records.RoundClosed) -> str:
    trained = [part for part in record.clients if part.phase is PhaseKind.TRAIN]
    counted = sum(part.outcome is Outcome.ACCEPTED for part in trained)
    traffic = f"{size(record.bytes_up)} up, {size(record.bytes_down)} down"
    found = [
        f"{counted} of {plural(len(trained), 'client')}",
        numbers(record.metrics or record.train_metrics),
        traffic,
        span(record.seconds),
    ]
    return f"closed: {', '.join(part for part in found if part)}"


@words.register
def _(record: records.EvaluationClosed) -> str:
    counted = sum(part.outcome is Outcome.ACCEPTED for part in record.clients)
    found = [
        f"{counted} of {plural(len(record.clients), 'client')}",
        numbers(record.metrics),
        f"central {numbers(record.central)}" if record.central else "",
        span(record.seconds),
    ]
    return f"version {record.version} evaluated: {', '.join(part for part in found if part)}"


@words.register
def _(record: records.RoundFailed) -> str:
    return f"attempt {record.attempt} failed: {record.reason}"

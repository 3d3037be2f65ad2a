"""From generated messages to the dataclasses of the admin client."""

import enum
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from fedelta.admin import _types as t
from fedelta.v1 import admin_pb2 as pb

E = TypeVar("E", bound=enum.StrEnum)


class _EnumType(Protocol):
    def Name(self, number: Any) -> str: ...  # noqa: N802  protobuf's own name


def _word(words: type[E], numbers: _EnumType, prefix: str, number: int) -> E:
    """The word for an enum number; "unknown" for one that only a newer coordinator knows."""
    try:
        return words(numbers.Name(number).removeprefix(prefix).lower())
    except ValueError:
        return words("unknown")


def _job_state(number: int) -> t.JobState:
    return _word(t.JobState, pb.JobState, "JOB_STATE_", number)


def _phase(number: int) -> t.Phase:
    return _word(t.Phase, pb.Phase, "PHASE_", number)


def _time(stamp: Any) -> datetime:
    found: datetime = stamp.ToDatetime(tzinfo=UTC)
    return found


def participation(message: pb.Participation) -> t.Participation:
    """One client's part."""
    return t.Participation(
        client=message.client,
        phase=_phase(message.phase),
        outcome=_word(t.Outcome, pb.Outcome, "OUTCOME_", message.outcome),
        reason=message.reason,
        examples=message.examples,
        metrics=dict(message.metrics),
        seconds=message.seconds,
        staleness=message.staleness,
        central=message.central,
    )


def evaluation_info(message: pb.Evaluation) -> t.EvaluationInfo:
    """A closed evaluation."""
    return t.EvaluationInfo(
        version=message.version,
        metrics=dict(message.metrics),
        spread={name: _spread(found) for name, found in message.spread.items()},
        central=dict(message.central),
        clients=tuple(map(participation, message.clients)),
        seconds=message.seconds,
        bytes_down=message.bytes_down,
    )


def _spread(message: pb.Spread) -> t.Spread:
    return t.Spread(min=message.min, median=message.median, p90=message.p90, max=message.max)


def round_info(message: pb.Round) -> t.RoundInfo:
    """A closed round."""
    return t.RoundInfo(
        number=message.number,
        attempts=message.attempts,
        seconds=message.seconds,
        bytes_up=message.bytes_up,
        bytes_down=message.bytes_down,
        clients=tuple(map(participation, message.clients)),
        metrics=dict(message.metrics),
        train_metrics=dict(message.train_metrics),
        digest=message.digest.hex(),
        update_norm=message.update_norm,
    )


def job_info(message: pb.Job) -> t.JobInfo:
    """A job."""
    return t.JobInfo(
        id=message.id,
        name=message.name,
        state=_job_state(message.state),
        reason=message.reason,
        submitted=_time(message.submitted),
        rounds_done=message.rounds_done,
        rounds_max=message.rounds_max,
        waiting_for=message.waiting_for,
        initial_digest=message.initial_digest.hex(),
        rounds=tuple(map(round_info, message.rounds)),
        toml=message.toml,
        best_version=message.best_version if message.HasField("best_version") else None,
        origin=message.origin,
        evaluations=tuple(map(evaluation_info, message.evaluations)),
        pruned_versions=tuple(message.pruned_versions),
    )


def client_info(message: pb.Client) -> t.ClientInfo:
    """A client."""
    return t.ClientInfo(
        name=message.name,
        state=_word(t.ClientState, pb.ClientState, "CLIENT_STATE_", message.state),
        learners=tuple(message.learners),
        software_version=message.software_version,
        last_seen=_time(message.last_seen),
        assignments=tuple(message.assignment_ids),
        progress=message.progress,
        labels=dict(message.labels),
        declined=dict(message.declined),
        evaluates_only=message.evaluates_only,
    )


def _state_changed(message: pb.JobStateChanged) -> t.StateChanged:
    return t.StateChanged(state=_job_state(message.state), reason=message.reason)


def _phase_opened(message: pb.PhaseOpened) -> t.PhaseOpened:
    return t.PhaseOpened(
        round=message.round,
        attempt=message.attempt,
        phase=_phase(message.phase),
        clients=tuple(message.clients),
    )


def _phase_extended(message: pb.PhaseExtended) -> t.PhaseExtended:
    return t.PhaseExtended(
        round=message.round,
        attempt=message.attempt,
        phase=_phase(message.phase),
        clients=tuple(message.clients),
    )


def _participation_ended(message: pb.ParticipationEnded) -> t.ParticipationEnded:
    return t.ParticipationEnded(round=message.round, participation=participation(message.participation))


def _version_made(message: pb.VersionMade) -> t.VersionMade:
    return t.VersionMade(version=message.version, digest=message.digest.hex(), length=message.length)


def _round_closed(message: pb.RoundClosed) -> t.RoundClosed:
    return t.RoundClosed(round=round_info(message.round))


def _evaluation_closed(message: pb.EvaluationClosed) -> t.EvaluationClosed:
    return t.EvaluationClosed(evaluation=evaluation_info(message.evaluation))


def _round_failed(message: pb.RoundFailed) -> t.RoundFailed:
    return t.RoundFailed(round=message.round, attempt=message.attempt, reason=message.reason)


def _extended(message: pb.JobExtended) -> t.JobExtended:
    return t.JobExtended(rounds_max=message.rounds_max)


_EVENTS: dict[str, Callable[[Any], Any]] = {
    "state_changed": _state_changed,
    "phase_opened": _phase_opened,
    "phase_extended": _phase_extended,
    "participation_ended": _participation_ended,
    "version_made": _version_made,
    "round_closed": _round_closed,
    "evaluation_closed": _evaluation_closed,
    "round_failed": _round_failed,
    "extended": _extended,
}


def event(message: pb.JobEvent) -> t.Event | None:
    """An event, or None for a kind that only a newer coordinator knows."""
    kind = message.WhichOneof("event")
    if kind is None:
        return None
    what = _EVENTS[kind](getattr(message, kind))
    return t.Event(sequence=message.sequence, time=_time(message.time), what=what)

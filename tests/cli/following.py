"""Events of a job as they come, for tests of what people see of it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fedelta.admin import (
    ClientInfo,
    ClientState,
    EvaluationClosed,
    EvaluationInfo,
    Event,
    JobState,
    Outcome,
    Participation,
    ParticipationEnded,
    Phase,
    PhaseOpened,
    RoundClosed,
    RoundInfo,
    StateChanged,
)
from fedelta.cli._progress import Progress, after

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So long after the job began."""
    return BEGIN + timedelta(seconds=seconds)


def state(name: JobState, reason: str = "") -> StateChanged:
    return StateChanged(state=name, reason=reason)


def opened(number: int, clients: tuple[str, ...], *, phase: Phase = Phase.TRAIN, attempt: int = 1) -> PhaseOpened:
    return PhaseOpened(round=number, attempt=attempt, phase=phase, clients=clients)


def ended(
    number: int, client: str, outcome: Outcome = Outcome.ACCEPTED, reason: str = "", *, phase: Phase = Phase.TRAIN
) -> ParticipationEnded:
    part = Participation(
        client=client, phase=phase, outcome=outcome, reason=reason, examples=10, metrics={}, seconds=0.8
    )
    return ParticipationEnded(round=number, participation=part)


def evaluated(version: int, central: Mapping[str, float] | None = None, **metrics: float) -> EvaluationClosed:
    found = EvaluationInfo(
        version=version, metrics=metrics, spread={}, central=central or {}, clients=(), seconds=1.0, bytes_down=500
    )
    return EvaluationClosed(evaluation=found)


def closed(number: int, metrics: Mapping[str, float] | None = None) -> RoundClosed:
    return RoundClosed(
        round=RoundInfo(
            number=number,
            attempts=1,
            seconds=2.0,
            bytes_up=1000,
            bytes_down=3000,
            clients=(),
            metrics=metrics or {},
            train_metrics={"loss": 0.25},
            digest="",
        )
    )


def client(name: str, *assignments: str, progress: float = 0.0, **declined: str) -> ClientInfo:
    """A client that works on these assignments; without any it is idle."""
    return ClientInfo(
        name=name,
        state=ClientState.BUSY if assignments else ClientState.IDLE,
        learners=("l",),
        software_version="0",
        last_seen=BEGIN,
        assignments=assignments,
        progress=progress,
        declined={job.replace("_", "-"): reason for job, reason in declined.items()},
    )


def told(*events: tuple[float, Any], progress: Progress | None = None) -> Progress:
    """What is known of digits-1, of 20 rounds, after these things, each so many seconds after the beginning."""
    known = progress or Progress(job="digits-1", rounds_max=20)
    for sequence, (seconds, what) in enumerate(events):
        known = after(known, Event(sequence=sequence, time=at(seconds), what=what))
    return known

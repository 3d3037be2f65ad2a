"""The engine's words as messages."""

from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from fedelta.v1 import admin_pb2 as pb
from fedelta_server.engine import Assignment, Client, Job, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from fedelta_server.evaluations import Closed, evaluations, spreads
from fedelta_server.store.journal import Entry

_STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_PHASES = {phase: pb.Phase.Value(f"PHASE_{phase.name}") for phase in PhaseKind}
_OUTCOMES = {outcome: pb.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome}


def timestamp(unix: float) -> Timestamp:
    """A point in time, from seconds since 1970."""
    return Timestamp(seconds=int(unix), nanos=int(unix % 1 * 1e9))


def job_message(job: Job, waiting_for: str) -> pb.Job:
    """A job without its rounds."""
    return pb.Job(
        id=job.id,
        name=job.spec.job.name,
        state=_STATES[job.state],
        reason=job.reason,
        submitted=timestamp(job.submitted_unix),
        rounds_done=job.rounds_done,
        rounds_max=job.rounds_max,
        toml=job.toml,
        waiting_for=waiting_for,
        initial_digest=job.initial.digest if job.initial else b"",
        origin=job.origin,
        pruned_versions=sorted(job.pruned),
    )


def history(message: pb.Job, closed: Iterable[Closed]) -> None:
    """Fills in a job's closed rounds, each with the metrics of its version, and its evaluations."""
    told = list(closed)
    found = evaluations(told)
    for each in told:
        if isinstance(each, records.RoundClosed):
            evaluation = found.get(each.number)
            message.rounds.append(round_message(each, evaluation.metrics if evaluation else None))
    message.evaluations.extend(map(evaluation_message, found.values()))


def evaluation_message(closed: records.EvaluationClosed) -> pb.Evaluation:
    """A closed evaluation."""
    found = pb.Evaluation(
        version=closed.version,
        metrics=closed.metrics,
        central=closed.central,
        clients=map(_participation, closed.clients),
        seconds=closed.seconds,
        bytes_down=closed.bytes_down,
    )
    for name, each in spreads(closed.clients).items():
        found.spread[name].CopyFrom(pb.Spread(min=each.min, median=each.median, p90=each.p90, max=each.max))
    return found


def round_message(closed: records.RoundClosed, metrics: Mapping[str, float] | None = None) -> pb.Round:
    """A closed round. `metrics`: what is known of its version's evaluation by now, beyond what the record has."""
    return pb.Round(
        number=closed.number,
        attempts=closed.attempts,
        seconds=closed.seconds,
        bytes_up=closed.bytes_up,
        bytes_down=closed.bytes_down,
        clients=[_participation(part) for part in closed.clients],
        metrics=closed.metrics if metrics is None else metrics,
        train_metrics=closed.train_metrics,
        digest=closed.digest,
        update_norm=closed.norm,
    )


def client_message(
    client: Client,
    state: pb.ClientState.ValueType,
    seen_unix: float,
    assignments: Sequence[Assignment],
    declined: Mapping[str, str],
) -> pb.Client:
    """A client. `declined`: the jobs in which it does not take part now, with the reasons."""
    return pb.Client(
        name=client.name,
        state=state,
        learners=client.learners,
        software_version=client.software_version,
        last_seen=timestamp(seen_unix),
        assignment_ids=[each.id for each in assignments],
        progress=max((each.progress for each in assignments), default=0.0),
        labels=client.labels,
        declined=declined,
        evaluates_only=client.evaluates_only,
    )


def event_message(entry: Entry) -> pb.JobEvent:
    """What watchers see of a record."""
    event = pb.JobEvent(sequence=entry.sequence, time=timestamp(entry.unix_time))
    record = entry.record
    if isinstance(record, records.JobSubmitted):
        event.state_changed.CopyFrom(pb.JobStateChanged(state=pb.JOB_STATE_QUEUED))
    elif isinstance(record, records.JobStateChanged):
        event.state_changed.CopyFrom(pb.JobStateChanged(state=_STATES[record.state], reason=record.reason))
    elif isinstance(record, records.JobExtended):
        event.extended.CopyFrom(pb.JobExtended(rounds_max=record.rounds_max))
    elif isinstance(record, records.PhaseOpened):
        event.phase_opened.CopyFrom(
            pb.PhaseOpened(
                round=record.round, attempt=record.attempt, phase=_PHASES[record.phase], clients=record.clients
            )
        )
    elif isinstance(record, records.PhaseExtended):
        event.phase_extended.CopyFrom(
            pb.PhaseExtended(
                round=record.round, attempt=record.attempt, phase=_PHASES[record.phase], clients=record.clients
            )
        )
    elif isinstance(record, records.ParticipationEnded):
        part = _participation(record.participation)
        event.participation_ended.CopyFrom(pb.ParticipationEnded(round=record.round, participation=part))
    elif isinstance(record, records.VersionMade):
        event.version_made.CopyFrom(pb.VersionMade(version=record.version, digest=record.digest, length=record.length))
    elif isinstance(record, records.RoundClosed):
        event.round_closed.CopyFrom(pb.RoundClosed(round=round_message(record)))
    elif isinstance(record, records.EvaluationClosed):
        event.evaluation_closed.CopyFrom(pb.EvaluationClosed(evaluation=evaluation_message(record)))
    elif isinstance(record, records.RoundFailed):
        event.round_failed.CopyFrom(pb.RoundFailed(round=record.round, attempt=record.attempt, reason=record.reason))
    return event


def _participation(part: records.Participation) -> pb.Participation:
    return pb.Participation(
        client=part.client,
        phase=_PHASES[part.phase],
        outcome=_OUTCOMES[part.outcome],
        reason=part.reason,
        examples=part.examples,
        metrics=part.metrics,
        seconds=part.seconds,
        staleness=part.staleness,
        central=part.central,
    )

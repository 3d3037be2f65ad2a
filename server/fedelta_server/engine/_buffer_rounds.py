"""Decisions about asynchronous rounds: who is asked, which updates can still count, when a version is made."""

from fedelta._words import plural
from fedelta_server.engine import effects, events, records
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._failing import pause_reason, with_reasons
from fedelta_server.engine._phases import weighted_mean
from fedelta_server.engine._selection import Cohort, askable, trainable
from fedelta_server.engine._state import Job
from fedelta_server.engine._work import Work
from fedelta_server.engine.words import JobState, Outcome, PhaseKind

ENOUGH = "the job has all the updates that it needs"
"""Why those who are still at work are told to stop."""


class BufferedRounds:
    """Decides about the rounds of jobs with `rounds.buffer`, from their initial model on."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def ask(self, job: Job, buffer: Buffer, cohort: Cohort, now: float) -> None:
        """Has clients train, starting from the newest version."""
        if not (buffer.open or buffer.held):
            buffer.opened_at = now
        names = sorted(cohort.names)
        attempts = [buffer.attempt(name) for name in names]
        begin = job.turns if job.standing is None else job.standing
        self._work.record(
            records.PhaseOpened(
                job=job.id,
                round=job.next_round,
                attempt=max(attempts),
                phase=PhaseKind.TRAIN,
                clients=names,
                turns=begin + job.cost(len(names)),
                population=cohort.population,
                attempts=attempts,
            )
        )
        for name in names:
            self._work.wake(job, buffer.open[name], [name])

    def advance(self, job: Job, buffer: Buffer) -> None:
        """Lets a version be made, if there are the updates for it, and tells those whose updates can no longer count.

        Of a job that is paused none is made: what is accepted meanwhile waits.
        """
        if job.updates_missing <= 0:
            self.release(buffer, ENOUGH)
        self._end_stale(job, buffer)
        if buffer.full and job.runnable and not (buffer.folding or job.complete or job.awaits_metrics):
            self._fold(job, buffer)

    def release(self, buffer: Buffer, reason: str, outcome: Outcome = Outcome.RELEASED) -> None:
        """Tells all who are at work that their updates are not needed."""
        for phase in list(buffer.open.values()):
            self._work.close_all(phase, outcome, reason)

    def reach_deadline(self, job: Job, buffer: Buffer, timer: str) -> bool:
        """Ends the training whose deadline a timer is. False: it is no such timer of this job's."""
        phase = next((each for each in buffer.open.values() if each.timer == timer), None)
        if phase is not None:
            self._work.close_all(phase, Outcome.LATE, "the deadline passed")
            self.advance(job, buffer)
        return phase is not None

    def fail(self, job: Job, buffer: Buffer, now: float) -> bool:
        """Notes that an attempt failed, where nobody is at work and nobody else can be asked. False: none did.

        After the last one the job is paused; before it, everybody may be asked again.
        """
        over = buffer.drops and not (job.complete or buffer.open or buffer.full)
        if not (over and job.runnable) or self._can_ask(job, buffer, now):
            return False
        parts = [each.participation for each in buffer.others[-buffer.drops :]]
        reason = with_reasons(f"{plural(buffer.drops, 'client')} in a row gave no update", parts)
        self._work.record(
            records.RoundFailed(job=job.id, round=job.next_round, attempt=job.attempts + 1, reason=reason)
        )
        if job.failed_attempts >= job.spec.rounds.attempts:
            self._work.change_state(job, JobState.PAUSED, pause_reason(job, f"round {job.next_round}", reason))
        return True

    def _can_ask(self, job: Job, buffer: Buffer, now: float) -> bool:
        fit = trainable(self._work.clients, job, now)
        idle = (name for name in fit if name not in self._work.book.training)
        return askable(job, buffer, idle, len(fit))[1] > 0

    def let_go(self, job: Job, buffer: Buffer) -> None:
        """Lets all files go of a job that ends before all its updates are in versions."""
        self._drop(job, [*(each.record for each in buffer.held), *buffer.others], oldest=job.next_round + 1)

    def folded(self, job: Job, buffer: Buffer, made: events.Folded) -> None:
        """A job has another version: its round is closed."""
        taken, others = [each.record for each in buffer.next], list(buffer.others)
        self._work.record(_version(job, taken, made))
        oldest = min((round_ for round_, _ in buffer.sources()), default=made.round + 1)
        self._drop(job, [*taken, *others], oldest=oldest, folded=True)
        self._close(job, buffer, [each.participation for each in (*taken, *others)], oldest, made)

    def _end_stale(self, job: Job, buffer: Buffer) -> None:
        most = job.spec.rounds.max_staleness
        for phase in list(buffer.open.values()):
            stale = max(map(job.staleness, phase.assignments))
            if stale > most:
                reason = f"its update would be {plural(stale, 'version')} behind; rounds.max_staleness = {most}"
                self._work.close_all(phase, Outcome.LATE, reason)

    def _fold(self, job: Job, buffer: Buffer) -> None:
        if job.model is None:
            raise ValueError(f"job {job.id} folds without a model")
        buffer.folding = True
        made = job.versions[job.model.version]
        self._work.step.effects.append(
            effects.Fold(
                job=job.id,
                round=job.next_round,
                attempt=1,
                base=job.model,
                base_manifest=made.manifest,
                updates=tuple(_to_fold(each.record) for each in buffer.next),
                state=made.state,
                population=max(each.population for each in buffer.next),
            )
        )

    def _close(
        self, job: Job, buffer: Buffer, parts: list[records.Participation], oldest: int, made: events.Folded
    ) -> None:
        self._work.record(
            records.RoundClosed(
                job=job.id,
                number=made.round,
                attempts=job.attempts + 1,
                seconds=made.at - buffer.opened_at,
                bytes_up=buffer.bytes_up,
                bytes_down=buffer.bytes_down,
                clients=parts,
                metrics={},
                train_metrics=weighted_mean([part for part in parts if part.outcome is Outcome.ACCEPTED]),
                digest=made.digest,
                turns=job.turns,
                level=job.level,
                norm=made.norm,
                reach=made.round - min([oldest - 1, *(each.since for each in job.evaluations.values())]),
            )
        )
        buffer.opened_at, buffer.bytes_up, buffer.bytes_down = made.at, 0, 0

    def _drop(self, job: Job, ended: list[records.ParticipationEnded], *, oldest: int, folded: bool = False) -> None:
        parts = tuple((each.round, each.attempt, each.participation.client) for each in ended)
        self._work.step.effects.append(effects.DropParts(job.id, parts, oldest, folded))


def _version(job: Job, taken: list[records.ParticipationEnded], made: events.Folded) -> records.VersionMade:
    return records.VersionMade(
        job=job.id,
        version=made.round,
        digest=made.digest,
        length=made.length,
        attempt=made.attempt,
        clients=[each.participation.client for each in taken],
        sources=[(each.round, each.attempt) for each in taken],
        manifest=made.manifest,
        state=made.state.digest if made.state else b"",
        state_length=made.state.length if made.state else 0,
        norm=made.norm,
    )


def _to_fold(accepted: records.ParticipationEnded) -> effects.FoldUpdate:
    part = accepted.participation
    return effects.FoldUpdate(
        client=part.client,
        examples=part.examples,
        digest=accepted.digest,
        length=accepted.length,
        facts=part.facts,
        staleness=part.staleness,
        round=accepted.round,
        attempt=accepted.attempt,
    )

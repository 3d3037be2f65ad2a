"""The life of a round: how it is opened, moved from phase to phase, and ended."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedelta._words import plural, times
from fedelta_server.engine import effects, events, records
from fedelta_server.engine._book import Book
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._dropouts import replacements, surplus_reason
from fedelta_server.engine._selection import Cohort, draw_evaluators, fitting
from fedelta_server.engine._sharing import next_turn
from fedelta_server.engine._state import PICKUP_SECONDS, Assignment, Job, Phase, Round, UpdateRef, weighted_mean
from fedelta_server.engine._timers import Timers
from fedelta_server.engine.effects import Effect
from fedelta_server.engine.records import Record
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


@dataclass
class Step:
    """What one event leads to: records to commit, then effects to run."""

    records: list[Record] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


class Rounds:
    """Decides about rounds, and writes what it decides into the step that is being made."""

    def __init__(self, book: Book, clients: Clients, timers: Timers) -> None:
        self.step = Step()
        self._book = book
        self._clients = clients
        self._timers = timers

    def record(self, record: Record) -> None:
        """Decides something: the book is changed, and the step says so."""
        self.step.records.append(record)
        self._book.apply(record)

    def change_state(self, job: Job, state: JobState, reason: str = "") -> None:
        """Puts a job into another state."""
        self.record(records.JobStateChanged(job=job.id, state=state, reason=reason))

    # Opening.

    def open_all(self, now: float) -> None:
        """Opens rounds wherever a job can have one. Rounds that are open, and short of clients, come first."""
        for job in self._book.jobs.values():
            self._replace_dropouts(job, now)
        while (turn := next_turn(self._book, self._clients, now)) is not None:
            self._open_round(turn.job, turn.cohort, now)

    def _open_round(self, job: Job, cohort: Cohort, now: float) -> None:
        if job.state is JobState.QUEUED:
            self.change_state(job, JobState.RUNNING)
        number = job.next_round
        kind = PhaseKind.TRAIN if number else PhaseKind.INITIALIZE
        begin = job.turns if job.standing is None else job.standing
        opened = records.PhaseOpened(
            job=job.id,
            round=number,
            attempt=job.attempts + 1,
            phase=kind,
            clients=sorted(cohort.names),
            turns=begin + job.cost(len(cohort.names)),
            wanted=cohort.wanted,
        )
        self._open_phase(job, opened, now)
        if job.round is not None:
            job.round.opened_at = now

    def _open_phase(self, job: Job, opened: records.PhaseOpened, now: float) -> None:
        self.record(opened)
        self._timers.drop(job.id)
        self._begin(job, opened.clients, now)

    def _begin(self, job: Job, names: Sequence[str], now: float) -> None:
        """Lets clients of the open phase begin."""
        phase = self._book.open_round(job.id).phase
        for name in names:
            self._start_lease(phase.open[name], now + PICKUP_SECONDS)
        self._start_deadline(job, now)
        self.step.effects.append(effects.Wake(tuple(names)))

    def _open_evaluation(self, job: Job, round_: Round, evaluators: list[str], now: float) -> None:
        opened = records.PhaseOpened(
            job=job.id,
            round=round_.number,
            attempt=round_.attempt,
            phase=PhaseKind.EVALUATE,
            clients=sorted(evaluators),
            turns=job.turns + job.cost(len(evaluators)),
        )
        self._open_phase(job, opened, now)

    def _replace_dropouts(self, job: Job, now: float) -> None:
        """Asks further clients, if the open round of a job is short of some and there are others."""
        names = replacements(job, self._clients, self._book.queues, now)
        if names and job.round is not None:
            self.record(
                records.PhaseExtended(
                    job=job.id,
                    round=job.round.number,
                    attempt=job.round.attempt,
                    phase=job.round.phase.kind,
                    clients=sorted(names),
                    turns=job.turns + job.cost(len(names)),
                )
            )
            self._begin(job, sorted(names), now)

    def _start_deadline(self, job: Job, now: float) -> None:
        """Lets the time of a phase begin, if it has not.

        That of a round that counts on busy clients begins when the last of them can: it needs them, and they are
        held up by other jobs. Evaluations are many and slight; what is late there is left out.
        """
        phase = job.round.phase if job.round is not None else None
        if phase is None or phase.deadline < math.inf:
            return
        if phase.kind is PhaseKind.EVALUATE or all(each.begun for each in phase.open.values()):
            phase.deadline = now + job.spec.rounds.deadline
            self._timers.set(job.id, phase.deadline)

    def restart_clocks(self, job: Job, round_: Round, now: float) -> None:
        """Gives a round that was open when the process ended its times anew, in full."""
        round_.opened_at = now
        for assignment in job.open_assignments():
            self._start_lease(assignment, now + job.spec.rounds.lease)
        self._start_deadline(job, now)

    # Assignments.

    def lease(self, assignment: Assignment, until: float) -> None:
        """Lets an assignment be its client's until then."""
        assignment.lease_until = until
        if until < math.inf:
            self._timers.set(assignment.id, until)

    def _start_lease(self, assignment: Assignment, until: float) -> None:
        # Behind another assignment it waits for that one; its clock starts when its turn comes.
        self.lease(assignment, until if self._first(assignment.client) is assignment else math.inf)

    def _first(self, client: str) -> Assignment | None:
        return next(iter(self._book.queues.get(client, {}).values()), None)

    def end(self, assignment: Assignment, outcome: Outcome, reason: str, now: float) -> None:
        """Ends an assignment without a result. Its round asks another client, or moves on."""
        job = self._book.jobs[assignment.job]
        self.close_part(assignment, outcome, reason, now)
        self._replace_dropouts(job, now)
        self.advance(job, now)

    def close_part(self, assignment: Assignment, outcome: Outcome, reason: str, now: float) -> None:
        """Ends an assignment without a result; its round stays where it is."""
        part = records.Participation(client=assignment.client, phase=assignment.phase, outcome=outcome, reason=reason)
        self.note_part(assignment, part, now)

    def note_part(
        self,
        assignment: Assignment,
        part: records.Participation,
        now: float,
        digest: bytes = b"",
        length: int = 0,
    ) -> None:
        """Ends an assignment. The client's next one begins."""
        self._timers.drop(assignment.id)
        self.record(
            records.ParticipationEnded(
                job=assignment.job,
                round=assignment.round,
                attempt=assignment.attempt,
                participation=part,
                digest=digest,
                length=length,
            )
        )
        following = self._first(assignment.client)
        if following is not None and not following.begun:
            self.lease(following, now + PICKUP_SECONDS)
            self._start_deadline(self._book.jobs[following.job], now)

    def lose(self, assignment: Assignment, now: float) -> None:
        """Ends an assignment whose lease ran out."""
        reason = "the client fell silent" if assignment.taken else "the client did not fetch it"
        self._clients.lose(assignment.client)
        self.end(assignment, Outcome.LOST, reason, now)

    def reach_deadline(self, job: Job, now: float) -> None:
        """Ends the open phase of a job without those who are not done."""
        for assignment in list(job.open_assignments()):
            self.close_part(assignment, Outcome.LATE, "the deadline passed", now)
        self.advance(job, now)

    # Moving on.

    def advance(self, job: Job, now: float) -> None:
        """Moves a job's round on, if its phase is complete. A paused job's as well: what was begun is finished."""
        round_ = job.round
        if round_ is not None and round_.phase.satisfied:
            self._release(job, round_.phase, now)
        if round_ is None or round_.phase.open or round_.folding:
            return
        if round_.phase.kind is PhaseKind.EVALUATE:
            self._close(job, round_, now)
        elif round_.phase.kind is PhaseKind.INITIALIZE:
            self._adopt_initial(job, round_)
        else:
            self._fold_or_fail(job, round_)

    def _release(self, job: Job, phase: Phase, now: float) -> None:
        """Tells those who are not done that their results are not needed."""
        for assignment in list(job.open_assignments()):
            self.close_part(assignment, Outcome.RELEASED, surplus_reason(phase), now)

    def folded(self, job: Job, round_: Round, made: events.Folded) -> None:
        """A round has its version: it is evaluated, or closed."""
        round_.folding = False
        self.record(
            records.VersionMade(
                job=job.id,
                version=round_.number,
                digest=made.digest,
                length=made.length,
                attempt=round_.attempt,
                clients=[part.client for part in round_.accepted(PhaseKind.TRAIN)],
                manifest=made.manifest,
            )
        )
        self.drop_updates(job, round_, folded=True)
        now = made.at
        evaluators = draw_evaluators(job, round_.number, fitting(self._clients, job, now))
        if evaluators:
            self._open_evaluation(job, round_, evaluators, now)
        else:
            self._close(job, round_, now)

    def abandon(self, job: Job, round_: Round) -> None:
        """Forgets the round of a job that was stopped."""
        self._timers.drop(job.id)
        self.drop_updates(job, round_)

    def drop_updates(self, job: Job, round_: Round, *, folded: bool = False) -> None:
        """Lets the files of an attempt's updates go."""
        self.step.effects.append(effects.DropUpdates(job.id, round_.number, round_.attempt, folded))

    def prune(self, job: Job, versions: Iterable[int]) -> None:
        """Gives up the files of versions, but not of those that something needs.

        A round works with the newest version only: its clients fetch, evaluate and change that, and it is folded into.
        """
        starts = {each.initial.digest for each in self._book.jobs.values() if each.initial is not None}
        newest = job.model.version if job.model is not None else 0
        gone = [
            job.versions[number].model
            for number in sorted(set(versions) & job.versions.keys() - job.pruned - {0, newest})
            if job.versions[number].model.digest not in starts
        ]
        if gone:
            self.record(records.VersionsPruned(job=job.id, versions=[each.version for each in gone]))
            self.step.effects.append(effects.DropModels(job.id, tuple(each.digest for each in gone)))

    def _adopt_initial(self, job: Job, round_: Round) -> None:
        if not round_.accepted(PhaseKind.INITIALIZE):
            self._fail(job, round_, "no client could make the initial model")
            return
        self._timers.drop(job.id)
        made = round_.updates[round_.phase.clients[0]]
        self.record(records.VersionMade(job=job.id, version=0, digest=made.digest, length=made.length))

    def _fold_or_fail(self, job: Job, round_: Round) -> None:
        updates = round_.accepted(PhaseKind.TRAIN)
        needed = job.spec.rounds.min_updates
        if len(updates) < needed or job.model is None:
            are = "is" if needed == 1 else "are"
            self._fail(job, round_, f"{plural(len(updates), 'update')} came in, at least {needed} {are} needed")
            return
        self._timers.drop(job.id)
        round_.folding = True
        self.step.effects.append(
            effects.Fold(
                job=job.id,
                round=round_.number,
                attempt=round_.attempt,
                base=job.model,
                base_manifest=job.versions[job.model.version].manifest,
                updates=tuple(_to_fold(part, round_.updates[part.client]) for part in updates),
            )
        )

    def _fail(self, job: Job, round_: Round, reason: str) -> None:
        why = "; ".join(f"{part.client}: {part.reason}" for part in round_.parts[-3:] if part.reason)
        reason = f"{reason} ({why})" if why else reason
        self._timers.drop(job.id)
        self.record(
            records.RoundFailed(
                job=job.id,
                round=round_.number,
                attempt=round_.attempt,
                reason=reason,
                counted=round_.failures() != {Outcome.DECLINED},
            )
        )
        self.drop_updates(job, round_)
        if job.failed_attempts >= job.spec.rounds.attempts and job.runnable:
            what = f"round {round_.number}" if round_.number else "the initial model"
            why = f"{what} failed {times(job.failed_attempts)}; the last time: {reason}"
            self.change_state(job, JobState.PAUSED, why if job.failed_attempts > 1 else f"{what} failed: {reason}")

    def _close(self, job: Job, round_: Round, now: float) -> None:
        self._timers.drop(job.id)
        if job.model is None:
            raise ValueError(f"job {job.id} closes a round without a model")
        self.record(
            records.RoundClosed(
                job=job.id,
                number=round_.number,
                attempts=round_.attempt,
                seconds=now - round_.opened_at,
                bytes_up=round_.bytes_up,
                bytes_down=round_.bytes_down,
                clients=sorted(round_.parts, key=lambda part: (part.client, part.phase)),
                metrics=weighted_mean(round_.accepted(PhaseKind.EVALUATE)),
                train_metrics=weighted_mean(round_.accepted(PhaseKind.TRAIN)),
                digest=job.model.digest,
                turns=job.turns,
                level=job.level,
            )
        )
        if job.rounds_done >= job.rounds_max:
            self.change_state(job, JobState.FINISHED)


def _to_fold(part: records.Participation, update: UpdateRef) -> effects.FoldUpdate:
    return effects.FoldUpdate(part.client, part.examples, update.digest, update.length)

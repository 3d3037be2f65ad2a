"""The life of a round: how it is opened, moved from phase to phase, and ended."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fedelta._words import plural
from fedelta_server.engine import effects, events, records
from fedelta_server.engine._asking import PartFailedError
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._buffer_rounds import BufferedRounds
from fedelta_server.engine._dropouts import replacements, surplus_reason
from fedelta_server.engine._evaluations import Evaluations
from fedelta_server.engine._failing import pause_reason, with_reasons
from fedelta_server.engine._judging import judge, unusable
from fedelta_server.engine._phases import Round, weighted_mean
from fedelta_server.engine._selection import Cohort
from fedelta_server.engine._sharing import Turn, next_turn
from fedelta_server.engine._state import Job
from fedelta_server.engine._work import Work
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


class Rounds:
    """Decides about rounds."""

    def __init__(self, work: Work, evaluations: Evaluations) -> None:
        self._work = work
        self._evaluations = evaluations
        self._buffered = BufferedRounds(work)

    # Opening.

    def open_all(self, now: float) -> None:
        """Ends jobs that are done, and opens rounds wherever a job can have one.

        Rounds that are open, and short of clients, come first.
        """
        for job in self._work.book.jobs.values():
            with self._pausing():
                self._conclude(job, now)
            self._replace_dropouts(job, now)
        self._fail_stuck(now)  # before others take the clients that may be asked again then
        self._give_turns(now)
        if self._fail_stuck(now):
            self._give_turns(now)

    def _give_turns(self, now: float) -> None:
        while (turn := self._next_turn(now)) is not None:
            self._open_round(turn.job, turn.cohort, now)

    def _next_turn(self, now: float) -> Turn | None:
        with self._pausing():
            return next_turn(self._work.book, self._work.clients, now)
        return self._next_turn(now)  # a job is paused, and it is the turn of another

    @contextmanager
    def _pausing(self) -> Iterator[None]:
        """Pauses a job one of whose parts fails."""
        try:
            yield
        except PartFailedError as failed:
            self._work.change_state(failed.job, JobState.PAUSED, failed.reason)

    def judge(self, job: Job) -> None:
        """Asks the stop rules of a job; see `judge`."""
        with self._pausing():
            judge(job)

    def _fail_stuck(self, now: float) -> bool:
        """Ends the attempts of asynchronous jobs for which nobody works any more. False: there are none."""
        jobs = self._work.book.jobs.values()
        failed = [job for job in jobs if job.buffered is not None and self._buffered.fail(job, job.buffered, now)]
        return bool(failed)

    def _conclude(self, job: Job, now: float) -> None:
        """Finishes a job whose rounds and evaluations are closed. Its last version is evaluated before that."""
        judge(job)
        if job.buffered is not None:
            self.advance(job, now)
        if not job.complete or job.state.ended or job.round is not None or job.model is None:
            return
        if job.model.version not in job.evaluated:
            self._evaluations.follow(job, job.model.version, now)
        if not job.evaluations:
            self._let_go(job)
            self._work.change_state(job, JobState.FINISHED, job.stop_reason)

    def _let_go(self, job: Job) -> None:
        """Lets the updates of an asynchronous job go that are in no version."""
        if job.buffered is not None and job.stop_reason:
            self._buffered.let_go(job, job.buffered)

    def _open_round(self, job: Job, cohort: Cohort, now: float) -> None:
        if job.state is JobState.QUEUED:
            self._work.change_state(job, JobState.RUNNING)
        if job.buffered is not None:
            self._buffered.ask(job, job.buffered, cohort, now)
            return
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
            population=cohort.population,
        )
        self._work.record(opened)
        round_ = self._work.book.open_round(job.id)
        round_.opened_at = now
        self._work.wake(job, round_.phase, opened.clients)

    def _replace_dropouts(self, job: Job, now: float) -> None:
        """Asks further clients, if the open round of a job is short of some and there are others."""
        names: list[str] = []
        with self._pausing():
            names = sorted(replacements(job, self._work.clients, self._work.book.training, now))
        if names and job.round is not None:
            self._work.record(
                records.PhaseExtended(
                    job=job.id,
                    round=job.round.number,
                    attempt=job.round.attempt,
                    phase=job.round.phase.kind,
                    clients=names,
                    turns=job.turns + job.cost(len(names)),
                )
            )
            self._work.wake(job, job.round.phase, names)

    def reach_deadline(self, job: Job, now: float) -> None:
        """Ends the open phase of a job without those who are not done."""
        if job.round is not None:
            self._work.close_all(job.round.phase, Outcome.LATE, "the deadline passed")
            self.advance(job, now)

    def reach_training_deadline(self, timer: str) -> None:
        """Ends the training of an asynchronous job whose deadline a timer is, if it is one's."""
        for job in self._work.book.jobs.values():
            if job.buffered is not None and self._buffered.reach_deadline(job, job.buffered, timer):
                return

    # Moving on.

    def advance(self, job: Job, now: float) -> None:
        """Moves a job's round on, if its phase is complete. A paused job's as well: what was begun is finished.

        Not that of a job whose plan cannot be made any more: it goes on when a coordinator has all its parts.
        """
        if unusable(job):
            return
        if job.buffered is not None:
            self._buffered.advance(job, job.buffered)
            return
        round_ = job.round
        if round_ is not None and round_.phase.satisfied:
            self._work.close_all(round_.phase, Outcome.RELEASED, surplus_reason(round_.phase))
        if round_ is None or round_.phase.open or round_.folding:
            return
        if round_.phase.kind is PhaseKind.INITIALIZE:
            self._adopt_initial(job, round_)
        elif job.model is not None and job.model.version == round_.number:
            self._close(job, round_, now)  # in journals of before, the evaluation was part of the round
        else:
            self._fold_or_fail(job, round_)

    def drop_out(self, job: Job, now: float) -> None:
        """A client of the open round dropped out: another one is asked, or the round moves on."""
        self._replace_dropouts(job, now)
        self.advance(job, now)

    def folded(self, job: Job, whole: Round | Buffer, made: events.Folded) -> None:
        """A round has its version: it is closed, and the version is evaluated."""
        whole.folding = False
        if isinstance(whole, Buffer):
            self._buffered.folded(job, whole, made)
        else:
            self._folded(job, whole, made)
        self._evaluations.follow(job, made.round, made.at)

    def _folded(self, job: Job, round_: Round, made: events.Folded) -> None:
        self._work.record(
            records.VersionMade(
                job=job.id,
                version=round_.number,
                digest=made.digest,
                length=made.length,
                attempt=round_.attempt,
                clients=[part.client for part in round_.accepted(PhaseKind.TRAIN)],
                manifest=made.manifest,
                state=made.state.digest if made.state else b"",
                state_length=made.state.length if made.state else 0,
                norm=made.norm,
            )
        )
        self.drop_updates(job, round_, folded=True)
        self._close(job, round_, made.at, made.norm)

    def abandon(self, job: Job) -> None:
        """Ends what is open of the rounds of a job that is being stopped, and lets its updates go."""
        why = "the job was stopped"
        if job.buffered is not None:
            self._buffered.release(job.buffered, why, Outcome.CANCELLED)
            self._buffered.let_go(job, job.buffered)
        elif job.round is not None:
            self._work.close_all(job.round.phase, Outcome.CANCELLED, why)
            self._work.timers.drop(job.id)
            self.drop_updates(job, job.round)

    def drop_updates(self, job: Job, round_: Round, *, folded: bool = False) -> None:
        """Lets the files of an attempt's updates go."""
        self._work.step.effects.append(effects.DropUpdates(job.id, round_.number, round_.attempt, folded))

    def prune(self, job: Job, versions: Iterable[int]) -> None:
        """Gives up the files of versions, but not of those that something needs.

        A round works with the newest version: its clients fetch and change that, and it is folded into. In asynchronous
        rounds some may still work with an older one.
        """
        starts = {each.initial.digest for each in self._work.book.jobs.values() if each.initial is not None}
        newest = job.model.version if job.model is not None else 0
        used = {each.version for each in job.open_assignments()}
        free = set(versions) & job.versions.keys() - job.pruned - used - {0, newest}
        gone = [
            job.versions[number].model for number in sorted(free) if job.versions[number].model.digest not in starts
        ]
        if gone:
            self._work.record(records.VersionsPruned(job=job.id, versions=[each.version for each in gone]))
            self._work.step.effects.append(effects.DropModels(job.id, tuple(each.digest for each in gone)))

    def _adopt_initial(self, job: Job, round_: Round) -> None:
        if not round_.accepted(PhaseKind.INITIALIZE):
            self._fail(job, round_, "no client could make the initial model")
            return
        self._work.timers.drop(job.id)
        made = round_.updates[round_.phase.clients[0]]
        self._work.record(records.VersionMade(job=job.id, version=0, digest=made.digest, length=made.length))

    def _fold_or_fail(self, job: Job, round_: Round) -> None:
        updates = round_.accepted(PhaseKind.TRAIN)
        needed = job.plan.least_updates
        if len(updates) < needed or job.model is None:
            are = "is" if needed == 1 else "are"
            self._fail(job, round_, f"{plural(len(updates), 'update')} came in, at least {needed} {are} needed")
            return
        self._work.timers.drop(job.id)
        round_.folding = True
        self._work.step.effects.append(
            effects.Fold(
                job=job.id,
                round=round_.number,
                attempt=round_.attempt,
                base=job.model,
                base_manifest=job.versions[job.model.version].manifest,
                updates=tuple(_to_fold(round_, part) for part in updates),
                state=job.versions[job.model.version].state,
                population=round_.phase.population,
            )
        )

    def _fail(self, job: Job, round_: Round, reason: str) -> None:
        reason = with_reasons(reason, round_.parts)
        self._work.timers.drop(job.id)
        self._work.record(
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
            self._work.change_state(job, JobState.PAUSED, pause_reason(job, what, reason))

    def _close(self, job: Job, round_: Round, now: float, norm: float = 0.0) -> None:
        self._work.timers.drop(job.id)
        if job.model is None:
            raise ValueError(f"job {job.id} closes a round without a model")
        self._work.record(
            records.RoundClosed(
                job=job.id,
                number=round_.number,
                attempts=round_.attempt,
                seconds=now - round_.opened_at,
                bytes_up=round_.bytes_up,
                bytes_down=round_.bytes_down,
                clients=sorted(round_.parts, key=lambda part: (part.client, part.phase)),
                metrics={},
                train_metrics=weighted_mean(round_.accepted(PhaseKind.TRAIN)),
                digest=job.model.digest,
                turns=job.turns,
                level=job.level,
                norm=norm,
                reach=round_.number - min((each.since for each in job.evaluations.values()), default=round_.number),
            )
        )


def _to_fold(round_: Round, part: records.Participation) -> effects.FoldUpdate:
    update = round_.updates[part.client]
    return effects.FoldUpdate(
        client=part.client,
        examples=part.examples,
        digest=update.digest,
        length=update.length,
        facts=part.facts,
        staleness=part.staleness,
        round=round_.number,
        attempt=round_.attempt,
    )

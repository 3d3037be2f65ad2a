"""Doing one assignment: fetch the model, have the learner work, deliver the result, and keep the lease meanwhile.

The gate says whether it is done and whether its result leaves; the courier carries what crosses the site's border.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    FedeltaError,
    ForeignAssignmentError,
    NotFoundError,
    PayloadError,
)
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.courier import Courier
from fedelta_client.gate import DeclinedError, Gate
from fedelta_client.results import Result
from fedelta_client.retry import jittered
from fedelta_client.session import FATAL
from fedelta_client.spool import Spool
from fedelta_client.trainer import WorkFailedError
from fedelta_client.trainers import Trainers

FIRST_RENEWAL_SECONDS = 1.0
"""After this at the latest the coordinator hears how far the work is, so that it can be seen of a short one, too."""
RENEWALS_PER_LEASE = 3
LEAST_LEASE_SECONDS = 0.3
"""A shorter lease is renewed as if it were this long. Renewals are also what shows that a busy client lives."""
DEADLINE_SECONDS = 0.1
"""So long after the deadline the coordinator is asked whether the result is still wanted."""

GONE = (AssignmentEndedError, ForeignAssignmentError, NotFoundError)
"""The coordinator no longer wants it, or not from here."""
RECORDED = PayloadError
"""The coordinator looked at the result and has recorded that it does not count. Other refusals it must be told of."""

log = logging.getLogger("fedelta.client")


class Worker:
    """Does assignments, one at a time."""

    def __init__(self, courier: Courier, gate: Gate, spool: Spool, trainers: Trainers) -> None:
        self._courier = courier
        self.gate = gate
        self._spool = spool
        self._trainers = trainers
        self.deaths: Counter[str] = Counter()
        """By learner: how many of its assignments in a row have killed its trainer."""

    async def perform(self, assignment: pb.Assignment) -> None:
        """Does it, or tells the coordinator why not. Raises only what ends the client (`FATAL`)."""
        progress = pb.Progress()
        work = asyncio.create_task(self._work(assignment, progress))
        lease = asyncio.create_task(self._keep_lease(assignment, progress))
        try:
            await asyncio.wait((work, lease), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            lease.cancel()
            await asyncio.wait((work, lease))
        for error in (task.exception() for task in (work, lease) if not task.cancelled()):
            if error is not None:
                raise error
        if work.cancelled():
            log.info("stopped: %s", lease.result())

    async def withdraw(self, learner: str) -> tuple[str, ...]:
        """Ends the learner's trainer for good. Returns the names of the learners that are left."""
        return await self._trainers.withdraw(learner)

    def unsettled(self) -> list[str]:
        """The assignments of which the coordinator has yet to say whether their updates were folded."""
        return self._spool.states.unsettled()

    def settle(self, settlements: Iterable[pb.Settlement]) -> None:
        """Keeps or drops what the learner made of itself in those assignments."""
        self._spool.states.settle({each.assignment_id: each.folded for each in settlements})

    async def _keep_lease(self, assignment: pb.Assignment, progress: pb.Progress) -> str:
        """Renews the lease for as long as the coordinator wants the result. Returns why it does not."""
        lease, clock = assignment.lease, asyncio.get_running_loop().time
        due, most = clock() + _deadline_seconds(assignment), FIRST_RENEWAL_SECONDS
        while True:
            silence = min(lease.ToTimedelta().total_seconds(), self._courier.session.liveness_seconds)
            seconds = jittered(min(max(silence, LEAST_LEASE_SECONDS) / RENEWALS_PER_LEASE, most))
            left, most = due - clock(), math.inf
            # A learner that hangs is to be free for the next round when this one is over, not a third of a lease later.
            await asyncio.sleep(min(seconds, left) if left > 0 else seconds)
            try:
                answer = await self._courier.renew(assignment, progress)
            except GONE as error:
                return str(error)
            if answer.directive == pb.DIRECTIVE_CANCEL:
                return answer.reason
            lease = answer.lease if answer.HasField("lease") else lease

    async def _work(self, assignment: pb.Assignment, progress: pb.Progress) -> None:
        """Does it to the end, so the lease is kept until the coordinator knows the outcome, good or bad."""
        try:
            await self._do(assignment, progress)
            self.deaths[assignment.learner] = 0
        except FATAL:
            raise
        except GONE as error:
            log.info("dropped: %s", error)
        except RECORDED as error:
            log.error("the coordinator refused the result: %s", error)
        except DeclinedError as error:
            log.info("declined: %s", error)
            await self._give_up(assignment, error.kind, str(error), error.retry_after)
        except (FedeltaError, OSError) as error:
            await self._fail(assignment, error)

    async def _fail(self, assignment: pb.Assignment, error: FedeltaError | OSError) -> None:
        kind = error.kind if isinstance(error, WorkFailedError) else pb.FAILURE_KIND_CLIENT
        died = kind == pb.FAILURE_KIND_TRAINER_DIED
        self.deaths[assignment.learner] = self.deaths[assignment.learner] + 1 if died else 0
        log.error("failed: %s", error)
        await self._give_up(assignment, kind, str(error))

    async def _give_up(
        self,
        assignment: pb.Assignment,
        kind: "pb.FailureKind.ValueType",
        message: str,
        retry_after: timedelta | None = None,
    ) -> None:
        try:
            await self._courier.give_up(assignment, kind, message, retry_after)
        except (*GONE, RECORDED, BadRequestError) as answer:
            log.debug("that was not recorded: %s", answer)

    async def hand_back(self, assignment: pb.Assignment) -> None:
        """Tells the coordinator, on the way out, that it is not done here."""
        log.info("handed back")
        await self._courier.hand_back(assignment)

    async def _do(self, assignment: pb.Assignment, progress: pb.Progress) -> None:
        result = await asyncio.to_thread(self._found, assignment)
        self.gate.admit(assignment, finished=result is not None)
        self._courier.cap(self.gate.policy.limits)
        if result is None:
            result = await self._make(assignment, progress)
        await self._deliver(assignment, result)

    def _found(self, assignment: pb.Assignment) -> Result | None:
        """The result of the assignment, if this client finished it before it was killed."""
        result = self._spool.results.find(assignment)
        if isinstance(result, say.Trained) and result.state_saved and assignment.id not in self.unsettled():
            return None  # what the learner made of itself belongs to the update, and is not there
        if result is not None:
            log.info("was finished before this client was started again")
        return result

    async def _make(self, assignment: pb.Assignment, progress: pb.Progress) -> Result:
        """Has the learner work. What comes out is there for whoever comes after this process."""
        command = await self._command(assignment)
        trainer = await self._trainers.get(assignment.learner)
        self._spool.results.clear()
        result = await trainer.do(command, lambda said: _note(progress, said))
        if not isinstance(result, Result):
            raise WorkFailedError(pb.FAILURE_KIND_CLIENT, f"the trainer answered {type(result).__name__}")
        log.info("%s", _summary(result))
        # In this order: a result that is found has its state.
        if isinstance(result, say.Trained) and result.state_saved:
            first = assignment.round <= 1
            self._spool.states.pend(assignment.job_id, assignment.learner, assignment.id, first=first)
        self._spool.results.keep(assignment, result)
        return result

    async def _command(self, assignment: pb.Assignment) -> say.Work:
        """What the trainer is to do, with the files it needs on disk."""
        assigned = _assigned(assignment, self._courier.session.name, self._state(assignment))
        out, state_out = str(self._spool.results.update), str(self._spool.states.draft)
        match assignment.kind:
            case pb.ASSIGNMENT_KIND_TRAIN:
                model, shared = await self._model(assignment), await self._shared(assignment)
                return say.Train(assigned=assigned, model=model, shared=shared, out=out, state_out=state_out)
            case pb.ASSIGNMENT_KIND_EVALUATE:
                return say.Evaluate(assigned=assigned, model=await self._model(assignment))
            case pb.ASSIGNMENT_KIND_INITIALIZE:
                return say.Initialize(assigned=assigned, out=out)
        raise WorkFailedError(pb.FAILURE_KIND_CLIENT, f"this client is too old for work of kind {assignment.kind}")

    async def _model(self, assignment: pb.Assignment) -> str:
        """The file with the model to start from, fetched unless it is there."""
        models, model = self._spool.models, assignment.model
        path = models.find(model.digest)
        if path is None:
            path = models.claim()
            await self._courier.fetch(assignment, path)
            models.keep(path, model.digest)
        return str(path)

    async def _shared(self, assignment: pb.Assignment) -> str | None:
        """The file with what the plan shares beside the model, fetched unless it is there. None: there is none yet."""
        if not assignment.HasField("shared"):
            return None
        held, wanted = self._spool.shared, assignment.shared
        path = held.find(wanted.digest)
        if path is None:
            path = held.claim()
            await self._courier.fetch(assignment, path, shared=True)
            held.keep(path, wanted.digest)
        return str(path)

    def _state(self, assignment: pb.Assignment) -> str | None:
        """The file with what is kept for the job's next assignment, if there is one."""
        states = self._spool.states
        if assignment.kind == pb.ASSIGNMENT_KIND_TRAIN and assignment.round <= 1:
            # Nothing was folded yet: what is there is of another job of that id, at a coordinator that is no more.
            states.forget(assignment.job_id, assignment.id)
        path = states.promoted(assignment.job_id, assignment.learner)
        return None if path is None else str(path)

    async def _deliver(self, assignment: pb.Assignment, result: Result) -> None:
        if isinstance(result, say.Evaluated):
            request = _evaluation(assignment, result)
            self.gate.release(assignment, examples=result.examples, length=request.ByteSize())
            await self._courier.report(assignment, request)
        else:
            examples = result.examples if isinstance(result, say.Trained) else 0
            self.gate.release(assignment, examples=examples, length=result.file.length)
            await self._courier.deliver(assignment, self._spool.results.update, result)


def _assigned(assignment: pb.Assignment, client: str, state: str | None) -> say.Assigned:
    return say.Assigned(
        job=assignment.job_id,
        round=assignment.round,
        client=client,
        seed=assignment.seed,
        config=assignment.config_json,
        model_arguments=assignment.model_arguments_json,
        plan=assignment.plan_json,
        state=state,
    )


def _evaluation(assignment: pb.Assignment, answer: say.Evaluated) -> pb.ReportEvaluationRequest:
    return pb.ReportEvaluationRequest(
        assignment_id=assignment.id,
        examples=answer.examples,
        metrics=answer.metrics,
        evaluate_seconds=answer.seconds,
    )


def _note(progress: pb.Progress, said: say.Progress) -> None:
    progress.CopyFrom(pb.Progress(fraction=said.fraction, metrics=said.metrics))


def _summary(result: Result) -> str:
    if isinstance(result, say.Initialized):
        return "made the model"
    done = "trained" if isinstance(result, say.Trained) else "evaluated"
    metrics = ", ".join(f"{name} {value:.3g}" for name, value in sorted(result.metrics.items()))
    return f"{done} on {result.examples} examples in {result.seconds:.1f} s" + (f" ({metrics})" if metrics else "")


def _deadline_seconds(assignment: pb.Assignment) -> float:
    """In how many seconds it is known that the result comes too late."""
    if not assignment.HasField("time_left"):
        return math.inf
    return assignment.time_left.ToTimedelta().total_seconds() + DEADLINE_SECONDS

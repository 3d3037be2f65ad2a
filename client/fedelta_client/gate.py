"""Where a site decides: the one place that is asked before work begins, and before its result leaves."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fedelta.errors import ConfigError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import bell
from fedelta_client.approval import Approval, Approvals
from fedelta_client.config import TrainerSettings
from fedelta_client.ledger import Ledger
from fedelta_client.policy import Accepted, Declined, Kind, Offer, Policy, Result, Verdict, load_policy
from fedelta_client.question import Question, answered, at_terminal
from fedelta_client.spool import Spool
from fedelta_client.trainer import WorkFailedError

_KINDS: dict[int, Kind] = {
    pb.ASSIGNMENT_KIND_TRAIN: "train",
    pb.ASSIGNMENT_KIND_EVALUATE: "evaluate",
    pb.ASSIGNMENT_KIND_INITIALIZE: "initialize",
}
_REASONS = {"waiting": "waits for approval at the site", "denied": "was denied at the site"}

log = logging.getLogger("fedelta.client")


class DeclinedError(WorkFailedError):
    """The site does not take part. The reason leaves the site."""

    code = "declined"

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(pb.FAILURE_KIND_DECLINED, reason)
        self.retry_after = retry_after


class Gate:
    """The site's policy and its operator's approvals, with what they need to know to decide."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        coordinator: str,
        *,
        policy: Path | None = None,
        approve: bool = False,
        evaluates_only: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """`policy`: its file. `approve`: whether an operator is asked. `evaluates_only`: whether the data is held out.

        Raises `ConfigError`.
        """
        self._spool = spool
        self._ledger = ledger
        self._coordinator = coordinator
        self._file = policy
        self._clock = clock
        self._evaluates_only = evaluates_only
        self._approvals = Approvals(spool.root / "approvals") if approve else None
        self._question: Question | None = None
        self.policy = Policy() if policy is None else load_policy(policy)
        self.news = asyncio.Event()
        """Set when what was declined may be accepted now: the coordinator is to offer it again."""

    def bound(self, trainers: Iterable[TrainerSettings]) -> tuple[TrainerSettings, ...]:
        """The settings within what the policy allows."""
        limits = self.policy.limits
        return tuple(replace(each, threads_max=limits.threads, nice=limits.nice) for each in trainers)

    def admit(self, assignment: pb.Assignment, *, finished: bool = False) -> None:
        """Whether to do it; nothing has been fetched yet. `finished`: nor will be. Raises `DeclinedError`."""
        if assignment.kind not in _KINDS:
            return  # nobody knows how to do it, and that is said elsewhere
        if self._evaluates_only and assignment.kind != pb.ASSIGNMENT_KIND_EVALUATE:
            raise DeclinedError("this client evaluates only")
        now = self._clock()
        offer = self._offer(assignment, finished)
        verdict = self.policy.judge(offer, self._ledger.usage(assignment.job_id, now), now)
        # The operator is asked at any hour, but not about what the policy refuses for good.
        if isinstance(verdict, Accepted) or verdict.retry_after is not None:
            self._check_approval(assignment)
        _enforce(verdict)

    def release(self, assignment: pb.Assignment, *, examples: int, length: int) -> None:
        """Whether the result may leave, which takes `length` bytes. Raises `DeclinedError`."""
        now = self._clock()
        result = Result(kind=_KINDS[assignment.kind], examples=examples, upload_bytes=length)
        _enforce(self.policy.judge_result(result, self._ledger.usage(assignment.job_id, now), now))

    def reread(self) -> None:
        """Reads the policy file again. One with a mistake in it changes nothing."""
        if self._file is None:
            return
        try:
            self.policy = load_policy(self._file)
        except ConfigError as error:
            log.error("the policy stays as it was: %s", error)
        else:
            log.info("read %s again", self._file)
            self.news.set()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """While the block runs, approvals arrive: from other terminals, and from this one if somebody sits there."""
        with ExitStack() as stack:
            if self._approvals is not None:
                stack.enter_context(bell.answered(self._spool.root, self._hear))
                if at_terminal():
                    self._question = Question(self._approvals, self.news.set)
                    stack.enter_context(answered(self._question))
            yield

    def _hear(self) -> None:
        if self._question is not None:
            self._question.refresh()
        self.news.set()

    def _offer(self, assignment: pb.Assignment, finished: bool) -> Offer:
        model, shared, spool = assignment.model, assignment.shared, self._spool
        trains = assignment.kind == pb.ASSIGNMENT_KIND_TRAIN
        files = ((model, spool.models), (shared, spool.shared)) if trains else ((model, spool.models),)
        missing = sum(each.length for each, held in files if held.find(each.digest) is None)
        return Offer(
            job_name=assignment.job_name,
            learner=assignment.learner,
            kind=_KINDS[assignment.kind],
            round=assignment.round,
            train=_table(assignment.config_json),
            model_arguments=_table(assignment.model_arguments_json),
            download_bytes=0 if finished else missing,
            upload_bytes=model.length + shared.length if trains else 0,
            spool_bytes=spool.footprint(model.length, shared.length),
        )

    def _check_approval(self, assignment: pb.Assignment) -> None:
        if self._approvals is None:
            return
        asking = _asking(assignment, self._coordinator)
        decision = self._approvals.decision(asking)
        if decision == "approved":
            return
        if decision == "waiting":
            self._ask(asking)
        raise DeclinedError(_REASONS[decision])

    def _ask(self, asking: Approval) -> None:
        if self._question is not None:
            self._question.ask(asking)
        else:
            log.warning("%s waits for approval; `fedelta client approve %s` gives it", asking.job, asking.job)


def _enforce(verdict: Verdict) -> None:
    if isinstance(verdict, Declined):
        raise DeclinedError(f"the site's policy: {verdict.reason}", verdict.retry_after)


def _asking(assignment: pb.Assignment, coordinator: str) -> Approval:
    return Approval(
        coordinator=coordinator,
        job=assignment.job_id,
        job_name=assignment.job_name,
        learner=assignment.learner,
        rounds=assignment.rounds_max,
        train=_table(assignment.config_json),
        model_arguments=_table(assignment.model_arguments_json),
        plan=_table(assignment.plan_json),
    )


def _table(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise WorkFailedError(pb.FAILURE_KIND_CLIENT, "the coordinator sent a table that is no JSON object")
    return found

"""Carries everything between a site and its coordinator, so that everything is in the ledger."""

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.ledger import Ledger, Parcel
from fedelta_client.pace import Pace
from fedelta_client.policy import Limits
from fedelta_client.session import Session
from fedelta_client.transfer import Update, fetch_file, push_update


def noting_registration(ledger: Ledger, request: pb.RegisterRequest) -> AbstractContextManager[object]:
    """The client says within it what it is."""
    said = f"client {request.client_name}, learners {', '.join(request.learners)}, fedelta {request.software_version}"
    labels = dict(request.labels)
    return ledger.sending(Parcel(kind="registration", bytes=request.ByteSize(), message=said, labels=labels))


class Courier:
    """What crosses the site's border, in both directions. Raises what the coordinator answers, or `LedgerError`."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self.session = session
        self._ledger = ledger
        self._up, self._down = Pace(), Pace()
        self._told: dict[str, float] = {}
        """The numbers that the coordinator was told last while a learner was at work."""

    def cap(self, limits: Limits) -> None:
        """From now on files go no faster than the policy allows."""
        self._up.cap(limits.upload_bytes_per_second)
        self._down.cap(limits.download_bytes_per_second)

    async def fetch(self, assignment: pb.Assignment, path: Path, *, shared: bool = False) -> None:
        """Fetches the assignment's model, or what its plan shares, into the file."""
        wanted, before = assignment.shared if shared else assignment.model, self._down.moved
        try:
            await fetch_file(self.session, assignment, path, self._down, shared=shared)
        finally:
            self._ledger.receive(
                job=assignment.job_id,
                round=assignment.round,
                version=wanted.version,
                digest=wanted.digest.hex(),
                bytes=self._down.moved - before,
                shared=shared,
            )

    async def deliver(self, assignment: pb.Assignment, path: Path, made: say.Trained | say.Initialized) -> None:
        """Sends the update or the initial model in the file."""
        trained, file = made if isinstance(made, say.Trained) else None, made.file
        parcel = Parcel(
            kind="update" if trained else "model",
            job=assignment.job_id,
            round=assignment.round,
            bytes=file.length,
            digest=file.digest,
            norm=file.norm if trained else None,
            examples=trained.examples if trained else 0,
            metrics=trained.metrics if trained else {},
            facts=trained.facts if trained else {},
            seconds=trained.seconds if trained else 0.0,
        )
        with self._ledger.sending(parcel, lambda: self._up.moved) as begun:
            update = Update(
                assignment_id=assignment.id,
                path=path,
                digest=bytes.fromhex(file.digest),
                length=file.length,
                examples=parcel.examples,
                metrics=parcel.metrics,
                seconds=parcel.seconds,
                facts=parcel.facts,
                begun=begun,
            )
            await push_update(self.session, update, self._up)

    async def report(self, assignment: pb.Assignment, request: pb.ReportEvaluationRequest) -> None:
        """Sends the result of an evaluation."""
        parcel = Parcel(
            kind="evaluation",
            job=assignment.job_id,
            round=assignment.round,
            bytes=request.ByteSize(),
            examples=request.examples,
            metrics=dict(request.metrics),
            seconds=request.evaluate_seconds,
        )
        with self._ledger.sending(parcel):
            await self.session.call(self.session.stub.ReportEvaluation, request)

    async def renew(self, assignment: pb.Assignment, progress: pb.Progress) -> pb.RenewAssignmentResponse:
        """Renews the lease, and says how far the work is. It is noted where it says new numbers of the learner's."""
        request = pb.RenewAssignmentRequest(assignment_id=assignment.id, progress=progress)
        with self._noting_progress(assignment, request):
            return await self.session.call(self.session.stub.RenewAssignment, request)

    def _noting_progress(
        self, assignment: pb.Assignment, request: pb.RenewAssignmentRequest
    ) -> AbstractContextManager[object]:
        told, self._told = self._told, dict(request.progress.metrics)
        if not self._told or self._told == told:
            return nullcontext()
        parcel = Parcel(
            kind="progress",
            job=assignment.job_id,
            round=assignment.round,
            bytes=request.ByteSize(),
            metrics=self._told,
        )
        return self._ledger.sending(parcel)

    async def give_up(
        self,
        assignment: pb.Assignment,
        kind: "pb.FailureKind.ValueType",
        message: str,
        retry_after: timedelta | None = None,
    ) -> None:
        """Says that the work is not done here, and why."""
        request = _failure(assignment, kind, message)
        if retry_after is not None:
            request.retry_after.CopyFrom(Duration(seconds=int(retry_after.total_seconds()) + 1))
        with self._ledger.sending(_told(assignment, request)):
            await self.session.call(self.session.stub.ReportFailure, request)

    async def hand_back(self, assignment: pb.Assignment) -> None:
        """Says on the way out that the work is not done here. Does not wait for long."""
        request = _failure(assignment, pb.FAILURE_KIND_RETURNED, "the client is shutting down")
        number = self._ledger.begin(_told(assignment, request))
        arrived = await self.session.part(self.session.stub.ReportFailure, request)
        self._ledger.end(number, "acknowledged" if arrived else "unknown", request.ByteSize())


def _failure(assignment: pb.Assignment, kind: "pb.FailureKind.ValueType", message: str) -> pb.ReportFailureRequest:
    return pb.ReportFailureRequest(
        assignment_id=assignment.id, kind=kind, message=message[: say.MAX_MESSAGE_CHARACTERS]
    )


def _told(assignment: pb.Assignment, request: pb.ReportFailureRequest) -> Parcel:
    return Parcel(
        kind="failure",
        job=assignment.job_id,
        round=assignment.round,
        bytes=request.ByteSize(),
        message=request.message,
    )

"""CoordinatorService: what clients call."""

import json
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

import fedelta
from fedelta._logs import about
from fedelta._names import CENTRAL_NAME, LABEL_RULE, NAME_RULE, is_label, is_name
from fedelta.errors import AssignmentEndedError, BadRequestError, ProtocolMismatchError
from fedelta.local import client_plan
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.wire.channel import PROTOCOL_MAX, PROTOCOL_MIN
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import LIVENESS_SECONDS, Assignment, Made, ModelRef, events
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.pace import reconnect_within
from fedelta_server.rpc._bulk import check_digest, take_data, take_header
from fedelta_server.rpc._guard import Context, guarded, guarded_stream
from fedelta_server.rpc._subject import Subject, client_of, subject
from fedelta_server.transfers import Downloads, Meter
from fedelta_server.updates import PushedUpdate, Updates

_log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 60.0
_RETRY_AFTER_DRAIN_SECONDS = 1.0
_MAX_MESSAGE_CHARS = 2000
_MAX_UNSETTLED = 1000
_MAX_LABELS = 64

_KINDS = {
    PhaseKind.TRAIN: pb.ASSIGNMENT_KIND_TRAIN,
    PhaseKind.EVALUATE: pb.ASSIGNMENT_KIND_EVALUATE,
    PhaseKind.INITIALIZE: pb.ASSIGNMENT_KIND_INITIALIZE,
}

_OUTCOMES = {pb.FAILURE_KIND_RETURNED: Outcome.RETURNED, pb.FAILURE_KIND_DECLINED: Outcome.DECLINED}


class CoordinatorService:
    """Translates clients' calls into events."""

    def __init__(self, coordinator: Coordinator, updates: Updates, downloads: Downloads) -> None:
        self._coordinator = coordinator
        self.calls = coordinator.calls
        self._updates = updates
        self._downloads = downloads

    def subject(self, request: Any) -> Subject:
        """What a call is about, for the log."""
        return subject(self._coordinator.engine, request)

    @guarded
    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        protocol = _negotiate(request)
        if not is_name(request.client_name):
            raise BadRequestError(f"{request.client_name!r} is not a client name: {NAME_RULE}")
        if len(request.session_id) < 16 or not request.learners:
            raise BadRequestError("a session id of 16 characters or more and at least one learner are needed")
        if request.client_name == CENTRAL_NAME and not request.evaluates_only:
            raise BadRequestError(
                f"the name {CENTRAL_NAME!r} is kept for a client that evaluates only; give this one another --name"
            )
        known = client_of(self._coordinator.engine, request.session_id)
        await self._coordinator.dispatch(
            events.ClientRegistered(
                at=self._coordinator.now(),
                name=request.client_name,
                session=request.session_id,
                learners=tuple(request.learners),
                labels=_checked_labels(request),
                software_version=request.software_version,
                evaluates_only=request.evaluates_only,
            )
        )
        _log.log(logging.DEBUG if known else logging.INFO, "joined, offers %s", ", ".join(request.learners))
        return pb.RegisterResponse(
            protocol=protocol,
            software_version=fedelta.__version__,
            liveness=_duration(LIVENESS_SECONDS),
            reconnect_within=_duration(reconnect_within(self._coordinator.engine)),
        )

    @guarded
    async def NextAssignment(self, request: pb.NextAssignmentRequest, context: Context) -> pb.NextAssignmentResponse:
        wait = min(_seconds(request.wait), MAX_WAIT_SECONDS)
        running = tuple(request.running_assignment_ids)
        found = await self._coordinator.next_assignment(request.session_id, wait, running)
        response = self._found(found)
        response.reconnect_within.CopyFrom(_duration(reconnect_within(self._coordinator.engine)))
        # At the same moment: an assignment and what came before it belong together.
        response.settled.extend(await self._settlements(request))
        return response

    @guarded
    async def RenewAssignment(self, request: pb.RenewAssignmentRequest, context: Context) -> pb.RenewAssignmentResponse:
        renewed = events.AssignmentRenewed(
            at=self._coordinator.now(),
            session=request.session_id,
            assignment=request.assignment_id,
            progress=request.progress.fraction,
        )
        try:
            await self._coordinator.dispatch(renewed)
            assignment = self._coordinator.engine.find(request.session_id, request.assignment_id)
        except AssignmentEndedError as ended:
            return pb.RenewAssignmentResponse(directive=pb.DIRECTIVE_CANCEL, reason=ended.message)
        lease = self._coordinator.engine.book.job(assignment.job).spec.rounds.lease
        return pb.RenewAssignmentResponse(directive=pb.DIRECTIVE_CONTINUE, lease=_duration(lease))

    @guarded_stream
    async def FetchModel(
        self, request: pb.FetchModelRequest, context: Context
    ) -> "AsyncGenerator[bytes | pb.FetchModelResponse, None]":
        assignment = self._coordinator.engine.find(request.session_id, request.assignment_id)
        model, path = self._shared(assignment) if request.shared else self._model(assignment)
        meter = Meter(self._coordinator, request.session_id, assignment.id)
        began = self._coordinator.now()
        async with self._downloads.one(path, model.length, request.offset) as chunks:
            yield pb.FetchModelResponse(header=pb.ModelHeader(model=_model_ref(model), offset=request.offset))
            async for chunk in chunks:
                yield chunk
                meter.down(len(chunk))
        meter.flush()
        with about(**self.subject(request)):
            seconds = self._coordinator.now() - began
            _log.debug("fetched %d bytes of the model in %.2f s", model.length - request.offset, seconds)

    @guarded
    async def PushUpdate(
        self, requests: "AsyncIterator[memoryview | pb.PushUpdateRequest]", context: Context
    ) -> pb.PushUpdateResponse:
        header = (await take_header(requests)).header
        pushed = PushedUpdate(
            session=header.session_id,
            assignment=header.assignment_id,
            digest=check_digest(header.digest),
            length=header.length,
            offset=header.offset,
            examples=header.examples,
            metrics=dict(header.metrics),
            seconds=header.train_seconds,
            facts=dict(header.facts),
        )
        with about(**self.subject(header)):
            already = await self._updates.push(pushed, take_data(requests))
        return pb.PushUpdateResponse(already_accepted=already)

    @guarded
    async def GetUploadStatus(self, request: pb.GetUploadStatusRequest, context: Context) -> pb.GetUploadStatusResponse:
        digest = check_digest(request.digest)
        held, accepted = await self._updates.held(request.session_id, request.assignment_id, digest)
        return pb.GetUploadStatusResponse(bytes_held=held, accepted=accepted)

    @guarded
    async def ReportEvaluation(
        self, request: pb.ReportEvaluationRequest, context: Context
    ) -> pb.ReportEvaluationResponse:
        await self._coordinator.dispatch(
            events.EvaluationReported(
                at=self._coordinator.now(),
                session=request.session_id,
                assignment=request.assignment_id,
                examples=request.examples,
                metrics=dict(request.metrics),
                seconds=request.evaluate_seconds,
            )
        )
        return pb.ReportEvaluationResponse()

    @guarded
    async def ReportFailure(self, request: pb.ReportFailureRequest, context: Context) -> pb.ReportFailureResponse:
        await self._coordinator.dispatch(
            events.AssignmentFailed(
                at=self._coordinator.now(),
                session=request.session_id,
                assignment=request.assignment_id,
                outcome=_OUTCOMES.get(request.kind, Outcome.FAILED),
                reason=request.message[:_MAX_MESSAGE_CHARS] or "no reason given",
                retry_after=_seconds(request.retry_after) if request.HasField("retry_after") else None,
            )
        )
        return pb.ReportFailureResponse()

    @guarded
    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveResponse:
        await self._coordinator.dispatch(events.ClientLeft(at=self._coordinator.now(), session=request.session_id))
        _log.info("left")
        return pb.LeaveResponse()

    def _found(self, found: Assignment | None) -> pb.NextAssignmentResponse:
        if found is not None:
            return pb.NextAssignmentResponse(assignment=self._assignment(found))
        retry = self._drained_seconds() if self._coordinator.draining else 0.0
        return pb.NextAssignmentResponse(retry_after=_duration(retry), waiting_for=self._waiting_for())

    def _drained_seconds(self) -> float:
        """When to ask a coordinator again that is about to end: not all at the same moment."""
        return _RETRY_AFTER_DRAIN_SECONDS + random.uniform(0, reconnect_within(self._coordinator.engine))

    async def _settlements(self, request: pb.NextAssignmentRequest) -> list[pb.Settlement]:
        """What became of the updates that a client asks about."""
        asked = request.unsettled_assignment_ids[:_MAX_UNSETTLED]
        if not asked:
            return []
        engine = self._coordinator.engine
        name = engine.clients.of_session(request.session_id).name
        fates = [(each, engine.book.fate(name, each)) for each in asked]
        await self._coordinator.settled()
        return [pb.Settlement(assignment_id=each, folded=fate) for each, fate in fates if fate is not None]

    def _model(self, assignment: Assignment) -> tuple[ModelRef, Path]:
        made = self._made(assignment)
        if made is None:
            raise BadRequestError(f"assignment {assignment.id!r} has no model to fetch")
        return made.model, self._coordinator.files.model_path(made.model.digest)

    def _shared(self, assignment: Assignment) -> tuple[ModelRef, Path]:
        shared = self._shared_ref(assignment)
        if shared is None:
            raise BadRequestError(f"assignment {assignment.id!r} shares nothing beside its model")
        return shared, self._coordinator.files.state_path(assignment.job, shared.version)

    def _made(self, assignment: Assignment) -> Made | None:
        """The version that an assignment's client gets, if it is not to make the first one."""
        job = self._coordinator.engine.book.job(assignment.job)
        return None if assignment.version is None else job.versions[assignment.version]

    def _shared_ref(self, assignment: Assignment) -> ModelRef | None:
        """What the plan shares with the client beside the version, as a file. None: nothing, or nothing yet."""
        made, job = self._made(assignment), self._coordinator.engine.book.job(assignment.job)
        trains = assignment.phase is PhaseKind.TRAIN and job.plan.local.shared
        if made is None or made.state is None or not trains:
            return None
        return ModelRef(made.model.version, made.state.digest, made.state.length)

    def _assignment(self, assignment: Assignment) -> pb.Assignment:
        engine = self._coordinator.engine
        job = engine.book.job(assignment.job)
        client = engine.clients.of_name(assignment.client)
        message = pb.Assignment(
            id=assignment.id,
            kind=_KINDS[assignment.phase],
            job_id=job.id,
            job_name=job.spec.job.name,
            learner=job.spec.job.learner or client.learners[0],
            round=assignment.round,
            config_json=json.dumps(job.spec.train, default=str),
            model_arguments_json=json.dumps(job.spec.model.arguments, default=str),
            plan_json=client_plan(job.spec),
            seed=job.seed_of(assignment),
            lease=_duration(job.spec.rounds.lease),
            rounds_max=job.rounds_max,
        )
        made, shared = self._made(assignment), self._shared_ref(assignment)
        if made is not None:
            message.model.CopyFrom(_model_ref(made.model))
        if shared is not None:
            message.shared.CopyFrom(_model_ref(shared))
        deadline = engine.book.phase_of(assignment).deadline
        if deadline < math.inf:
            message.time_left.CopyFrom(_duration(max(0.0, deadline - self._coordinator.now())))
        return message

    def _waiting_for(self) -> str:
        engine, now = self._coordinator.engine, self._coordinator.now()
        waits = ((job.id, engine.waiting_for(job, now)) for job in engine.book.jobs.values())
        found = [f"job {job_id} waits for {what}" for job_id, what in waits if what]
        return "; ".join(found) or "no job has work for this client"


def _negotiate(request: pb.RegisterRequest) -> int:
    protocol = min(request.protocol_max, PROTOCOL_MAX)
    if protocol < max(request.protocol_min, PROTOCOL_MIN):
        older = "client" if request.protocol_max < PROTOCOL_MIN else "coordinator"
        raise ProtocolMismatchError(
            f"the client speaks protocol {request.protocol_min} to {request.protocol_max}, the coordinator "
            f"{PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the {older} (fedelta {fedelta.__version__} runs here)"
        )
    return protocol


def _checked_labels(request: pb.RegisterRequest) -> dict[str, str]:
    if len(request.labels) > _MAX_LABELS:
        raise BadRequestError(f"a client has at most {_MAX_LABELS} labels; here are {len(request.labels)}")
    for key, value in request.labels.items():
        if not is_name(key) or not is_label(f"{key}={value}" if value else key):
            raise BadRequestError(f"{key!r} = {value!r} is no label; it must be {LABEL_RULE}")
    return dict(request.labels)


def _model_ref(model: ModelRef) -> pb.ModelRef:
    return pb.ModelRef(digest=model.digest, length=model.length, version=model.version)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _seconds(duration: Duration) -> float:
    return max(0.0, duration.seconds + duration.nanos / 1e9)

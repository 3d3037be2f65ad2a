"""Taking in what clients push: spool, admit, keep, acknowledge."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from fedelta.errors import BadRequestError, DigestMismatchError, FedeltaError, PayloadError, StorageError
from fedelta.tensors import UPDATE_METADATA, Schema, update_schema
from fedelta_server.aggregate import admit_model, admit_update, check_facts, check_weight, read_schema
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import Assignment, events
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.plan import wanted_facts
from fedelta_server.transfers import Meter
from fedelta_server.uploads import Announced, Stream, Uploads

_log = logging.getLogger(__name__)

_SLACK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class PushedUpdate:
    """What the header of an update says."""

    session: str
    assignment: str
    digest: bytes
    length: int
    offset: int
    examples: int
    metrics: Mapping[str, float]
    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)


class Updates:
    """Takes in the results of TRAIN and INITIALIZE assignments."""

    def __init__(self, coordinator: Coordinator, uploads: Uploads) -> None:
        self._coordinator = coordinator
        self._uploads = uploads

    async def push(self, pushed: PushedUpdate, chunks: AsyncIterator[memoryview]) -> bool:
        """Receives an update. Returns whether it had been accepted before; raises where it does not count.

        When this returns the update is durable and recorded.
        """
        if await self._was_accepted(pushed.session, pushed.assignment, pushed.digest):
            return True
        assignment = self._coordinator.engine.find(pushed.session, pushed.assignment)
        if assignment.phase is PhaseKind.EVALUATE:
            raise BadRequestError(f"assignment {assignment.id!r} is to evaluate; it takes no update")
        async with self._uploads.only(assignment.id) as stream:
            if await self._was_accepted(pushed.session, pushed.assignment, pushed.digest):
                return True
            try:
                checked = await self._checked(pushed, assignment)
                path = await self._receive(checked, assignment, stream, chunks)
                await self._take(checked, assignment, path)
            except PayloadError as error:
                await self._refuse(pushed, assignment, error)
        return False

    async def _receive(
        self, pushed: PushedUpdate, assignment: Assignment, stream: Stream, chunks: AsyncIterator[memoryview]
    ) -> Path:
        meter = Meter(self._coordinator, pushed.session, assignment.id)

        def moved(count: int) -> None:
            # What can no longer count need not come to its end.
            self._coordinator.engine.find(pushed.session, assignment.id)
            meter.up(count)

        announced = Announced(key=assignment.id, digest=pushed.digest, length=pushed.length, offset=pushed.offset)
        began = self._coordinator.now()
        _log.debug("sends %d bytes, from byte %d on", pushed.length, pushed.offset)
        path = await self._uploads.receive(stream, announced, chunks, moved)
        _log.debug("sent them in %.2f s", self._coordinator.now() - began)
        meter.flush()
        return path

    async def held(self, session: str, assignment_id: str, digest: bytes) -> tuple[int, bool]:
        """Bytes held of an upload, and whether it was accepted."""
        if await self._was_accepted(session, assignment_id, digest):
            return 0, True
        assignment = self._coordinator.engine.find(session, assignment_id)
        return self._coordinator.files.held(assignment.id, digest), False

    async def _was_accepted(self, session: str, assignment_id: str, digest: bytes) -> bool:
        accepted = self._coordinator.engine.was_accepted(session, assignment_id, digest)
        if accepted:
            # The engine knows it before the disk does.
            await self._coordinator.settled()
        return accepted

    async def _checked(self, pushed: PushedUpdate, assignment: Assignment) -> PushedUpdate:
        """The header with those facts that the plan wants. Raises `PayloadError`."""
        if assignment.phase is PhaseKind.INITIALIZE:
            return replace(pushed, facts={})
        check_weight(pushed.examples)
        job = self._coordinator.engine.book.job(assignment.job)
        facts = check_facts(pushed.facts, wanted_facts(job.plan, job.spec))
        expected = _file_length(await self._model_schema(assignment), job.plan.local.shared)
        # Within bounds it is received in full, so that the refusal can name the tensor.
        if pushed.length > 2 * expected + _SLACK_BYTES:
            raise PayloadError(
                f"{pushed.length} bytes are announced; an update to this job's model has {expected}. "
                "Is this the right learner?"
            )
        return replace(pushed, facts=facts)

    async def _take(self, pushed: PushedUpdate, assignment: Assignment, path: Path) -> None:
        if assignment.phase is PhaseKind.INITIALIZE:
            await self._coordinator.in_thread(admit_model, path, pushed.digest, pushed.length)
            await self._coordinator.in_thread(self._coordinator.files.keep_model, path, pushed.digest)
            await self._accept(pushed)
            return
        job = self._coordinator.engine.book.job(assignment.job)
        schema, shared = await self._model_schema(assignment), job.plan.local.shared
        # The disk works while the processor checks.
        for outcome in await asyncio.gather(
            self._coordinator.in_thread(admit_update, path, schema, pushed.digest, pushed.length, shared),
            self._coordinator.in_thread(self._coordinator.files.sync, path),
            return_exceptions=True,
        ):
            if isinstance(outcome, BaseException):
                raise outcome
        where = (assignment.job, assignment.round, assignment.attempt, assignment.client)
        kept = await self._coordinator.in_thread(self._coordinator.files.keep_update, path, *where)
        try:
            await self._accept(pushed)
        except StorageError:
            # A commit that failed may still turn up on disk after a restart, and would then name this file.
            raise
        except FedeltaError:
            kept.unlink(missing_ok=True)
            raise

    async def _accept(self, pushed: PushedUpdate) -> None:
        await self._coordinator.dispatch(
            events.UpdateAccepted(
                at=self._coordinator.now(),
                session=pushed.session,
                assignment=pushed.assignment,
                examples=pushed.examples,
                metrics=pushed.metrics,
                seconds=pushed.seconds,
                digest=pushed.digest,
                length=pushed.length,
                facts=pushed.facts,
            )
        )

    async def _refuse(self, pushed: PushedUpdate, assignment: Assignment, error: PayloadError) -> None:
        """Drops what was received and raises. Bytes garbled on the way may be sent again; anything else is final."""
        await self._coordinator.in_thread(self._coordinator.files.drop_upload, assignment.id)
        if isinstance(error, DigestMismatchError):
            raise error
        named = type(error)(f"update of client {assignment.client!r} refused: {error}")
        await self._coordinator.dispatch(
            events.AssignmentFailed(
                at=self._coordinator.now(),
                session=pushed.session,
                assignment=assignment.id,
                outcome=Outcome.REJECTED,
                reason=str(error),
            )
        )
        raise named from error

    async def _model_schema(self, assignment: Assignment) -> Schema:
        model = self._coordinator.engine.book.job(assignment.job).initial
        if model is None:
            raise BadRequestError(f"job {assignment.job!r} has no model yet")
        return await self._coordinator.in_thread(_schema_of, self._coordinator.files.model_path(model.digest))


@lru_cache(maxsize=16)
def _file_length(model: Schema, shared: tuple[str, ...]) -> int:
    schema = update_schema(model, shared)
    return len(schema.header(UPDATE_METADATA)) + schema.data_bytes


@lru_cache(maxsize=16)
def _schema_of(path: Path) -> Schema:
    """A model's schema. Model files are named by their digest, so what was read once stays true."""
    return read_schema(path)

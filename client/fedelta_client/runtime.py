"""The client's runtime process: from start to Leave. grpc, but no torch."""

import asyncio
import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.duration_pb2 import Duration

from fedelta._logs import about
from fedelta._malloc import keep_freed_chunks
from fedelta.errors import FedeltaError, NameInUseError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.wire.proxy import Proxy, choose
from fedelta_client import messages as say
from fedelta_client.assignment import Worker
from fedelta_client.config import ClientConfig
from fedelta_client.courier import Courier, noting_registration
from fedelta_client.gate import Gate
from fedelta_client.ledger import Ledger
from fedelta_client.retry import delays, jittered
from fedelta_client.session import CALL_SECONDS, FATAL, Session
from fedelta_client.spool import Spool, default_root
from fedelta_client.stop import Stop, unless
from fedelta_client.trainers import Trainers

POLL_SECONDS = 20
"""How long the coordinator may hold a call for work."""
NAME_SECONDS = 15.0
"""How long to wait for a name that another process holds: by then a dead one has lost it."""
NAME_RETRY_SECONDS = 1.0
MOST_DEATHS = 5
"""After this many assignments in a row that killed its trainer, a learner is offered no more."""

FIRST_RECOVERY_SECONDS = 1.0
"""Pause after an assignment that killed the trainer; doubles with each one in a row."""

log = logging.getLogger("fedelta.client")


class TrainerKeepsDyingError(FedeltaError):
    """The trainers of all learners died several times in a row."""

    code = "trainer-keeps-dying"


async def run(config: ClientConfig) -> int:
    """Runs the client until a signal ends it; returns the exit code.

    Raises `LearnerError` where a learner cannot be loaded, `ConfigError` where two have one name, `NameInUseError`,
    `ProtocolMismatchError`, `TrainerKeepsDyingError`. To be called in the main thread.
    """
    keep_freed_chunks()
    proxy = choose(config.server, config.proxy, os.environ)
    coordinator = str(config.server)
    with Spool(config.spool or default_root(config.name)) as spool, Ledger(spool.ledger, coordinator) as ledger:
        gate = Gate(
            spool,
            ledger,
            coordinator,
            policy=config.policy,
            approve=config.approve,
            evaluates_only=config.evaluates_only,
        )
        trainers = Trainers(gate.bound(config.trainers))
        stop = Stop(on_hurry=trainers.hurry, on_reread=gate.reread)
        stop.install()
        try:
            # Before the session: learners that cannot be loaded are found here, not in a round.
            ready = await unless(stop.drain, trainers.start())
            if ready is not None:
                await _serve(config, _Site(proxy=proxy, spool=spool, ledger=ledger, gate=gate), trainers, stop, ready)
        finally:
            await trainers.close()
    return stop.exit_code


@dataclass(frozen=True, kw_only=True)
class _Site:
    """What a client has of its own, whoever it works for."""

    proxy: Proxy | None
    spool: Spool
    ledger: Ledger
    gate: Gate


async def _serve(config: ClientConfig, site: _Site, trainers: Trainers, stop: Stop, ready: Sequence[say.Ready]) -> None:
    for each in ready:
        log.debug("learner %s is loaded, on %s", each.learner, each.device)
    learners = [each.learner for each in ready]
    noted = partial(noting_registration, site.ledger)
    async with Session(
        config.server,
        config.name,
        learners,
        session_id=site.spool.session.open(config.name, str(config.server)),
        labels=config.label_values,
        evaluates_only=config.evaluates_only,
        noted=noted,
        proxy=site.proxy,
        keepalive_seconds=config.keepalive_seconds,
    ) as session:
        if await unless(stop.drain, _register(session)) is None:
            return
        print(f"client {session.name} connected to {session.target}", flush=True)
        worker = Worker(Courier(session, site.ledger), site.gate, site.spool, trainers)
        try:
            with site.gate.attended():
                await Client(session, worker, stop).run()
        finally:
            if await session.part(session.stub.Leave, pb.LeaveRequest()):
                site.spool.session.close()


async def _register(session: Session) -> pb.RegisterResponse:
    """Opens the session; the process that holds the name may be dead, so it is given time to lapse."""
    deadline = asyncio.get_running_loop().time() + NAME_SECONDS
    while True:
        try:
            return await session.register()
        except NameInUseError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise NameInUseError(f"{error}; stop that one, or give this one another --name") from None
        log.debug("the name is taken; waiting for it")
        await asyncio.sleep(NAME_RETRY_SECONDS)


class Client:
    """Asks for work and has it done, until it is to stop."""

    def __init__(self, session: Session, worker: Worker, stop: Stop) -> None:
        self._session = session
        self._worker = worker
        self._stop = stop
        self._news = worker.gate.news
        self._waiting_for = ""

    async def run(self) -> None:
        """Polls until the client is to stop. Raises what ends the client."""
        while not self._stop.drain.is_set():
            if self._news.is_set():
                self._news.clear()
                await unless(self._stop.drain, self._session.register())
            found = await unless(self._stop.drain, unless(self._news, self._poll()))
            if found is not None and found.HasField("assignment"):
                await self._perform(found.assignment)
                await unless(self._stop.drain, self._recover(found.assignment.learner))

    async def _poll(self) -> pb.NextAssignmentResponse:
        """Asks for work once. Without work it waits as long as the coordinator said before it returns."""
        request = pb.NextAssignmentRequest(
            wait=Duration(seconds=POLL_SECONDS), unsettled_assignment_ids=self._worker.unsettled()
        )
        try:
            found = await self._session.call(
                self._session.stub.NextAssignment, request, seconds=POLL_SECONDS + CALL_SECONDS
            )
        except FATAL:
            raise
        except FedeltaError as error:
            log.error("the coordinator refused to give work: %s", error)
            found = pb.NextAssignmentResponse(retry_after=Duration(seconds=5))
        self._worker.settle(found.settled)
        await self._session.adapt(found.reconnect_within.ToTimedelta().total_seconds())
        self._tell(found.waiting_for)
        if not found.HasField("assignment"):
            await asyncio.sleep(jittered(found.retry_after.ToTimedelta().total_seconds()))
        return found

    async def _perform(self, assignment: pb.Assignment) -> None:
        self._stop.busy = True
        with about(job=assignment.job_id, round=assignment.round):
            await unless(self._stop.now, self._worker.perform(assignment))
            self._stop.busy = False
            if self._stop.now.is_set():
                await self._worker.hand_back(assignment)

    async def _recover(self, learner: str) -> None:
        """After an assignment that killed the learner's trainer: a pause, longer each time, and then an end to it."""
        deaths = self._worker.deaths[learner]
        if deaths >= MOST_DEATHS:
            await self._withdraw(learner)
        elif deaths:
            await asyncio.sleep(next(itertools.islice(delays(first=FIRST_RECOVERY_SECONDS), deaths - 1, None)))

    async def _withdraw(self, learner: str) -> None:
        """Goes on without a learner: the next assignment would kill its trainer, too."""
        cause = f"the trainer of {learner} died in {MOST_DEATHS} assignments in a row; see above for why"
        self._session.learners = await self._worker.withdraw(learner)
        if not self._session.learners:
            raise TrainerKeepsDyingError(cause)
        log.error("%s. From now on this client offers only %s", cause, ", ".join(self._session.learners))
        await self._session.register()

    def _tell(self, waiting_for: str) -> None:
        """Says what the coordinator waits for, when that changes."""
        if waiting_for and waiting_for != self._waiting_for:
            log.info("idle: %s", waiting_for)
        self._waiting_for = waiting_for

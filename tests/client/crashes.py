"""A client's steps with its spool, in this process, such that it can be killed before any of them."""

import asyncio
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from google.protobuf.duration_pb2 import Duration

from fedelta.errors import AssignmentEndedError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import courier
from fedelta_client import messages as say
from fedelta_client.assignment import Worker
from fedelta_client.courier import Courier
from fedelta_client.gate import Gate
from fedelta_client.ledger import Ledger
from fedelta_client.spool import Spool

_DISK = ("replace", "unlink", "mkdir", "write", "fsync", "fdatasync")


class KilledError(BaseException):
    """SIGKILL, in a test: nobody catches it, and whoever tries to clean up meets it again."""


@dataclass
class Steps:
    """Counts what a process does, and kills it before one of its steps."""

    kill_before: int | None
    taken: int = 0

    def take(self) -> None:
        """The process is about to do something."""
        if self.kill_before is not None and self.taken >= self.kill_before:
            raise KilledError
        self.taken += 1

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """From now on what is done to the disk are steps."""
        for name in _DISK:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **more: Any) -> Any:
            self.take()
            # A process that is killed loses nothing that it has written: the tests need not wait for the disk.
            return None if "sync" in name else act(*given, **more)

        return watched


@dataclass
class World:
    """A coordinator with one client: a round is over when its update was accepted, and folded where `folds` says so."""

    folds: tuple[bool, ...]
    accepted: list[dict[str, int]] = field(default_factory=list)
    """What is in the updates, round by round."""
    begun: defaultdict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By round: the different updates that the client began to send."""
    trained: Counter[int] = field(default_factory=Counter)
    """By round: how often."""

    @property
    def over(self) -> bool:
        return len(self.accepted) == len(self.folds)

    def assignment(self) -> pb.Assignment:
        """The one that is open."""
        round_ = len(self.accepted) + 1
        return pb.Assignment(
            id=f"job.{round_}", kind=pb.ASSIGNMENT_KIND_TRAIN, job_id="job", round=round_, lease=Duration(seconds=3600)
        )

    def settlements(self, asked: list[str]) -> list[pb.Settlement]:
        """What became of the updates that the client asks about."""
        known = {f"job.{index + 1}": folded for index, folded in enumerate(self.folds[: len(self.accepted)])}
        return [pb.Settlement(assignment_id=each, folded=known[each]) for each in asked if each in known]

    def accept(self, assignment_id: str, update: bytes) -> None:
        """Takes in an update. Raises `AssignmentEndedError` where the round is over."""
        if self.over or assignment_id != self.assignment().id:
            raise AssignmentEndedError("the round is over")
        self.accepted.append(json.loads(update))


class FakeTrainer:
    """Counts in its state how often it trained, and never makes the same update twice."""

    def __init__(self, world: World, steps: Steps) -> None:
        self._world = world
        self._steps = steps

    async def do(self, command: say.Train, _on_progress: object) -> say.Trained:
        round_ = command.assigned.round
        self._world.trained[round_] += 1
        count = 1 + (int(Path(command.assigned.state).read_text()) if command.assigned.state else 0)
        update = json.dumps({"count": count, "made": self._world.trained.total()}).encode()
        self._overwrite(Path(command.state_out), str(count).encode())
        self._overwrite(Path(command.out), update)
        file = say.File(digest=blake3(update).hexdigest(), length=len(update), norm=1.0)
        return say.Trained(file=file, state_saved=True, examples=1, metrics={}, seconds=0.5)

    def _overwrite(self, path: Path, content: bytes) -> None:
        """In place, half after half."""
        path.touch()
        with path.open("r+b", buffering=0) as file:
            for part in (content[:3], content[3:]):
                self._steps.take()
                file.write(part)
            self._steps.take()
            file.truncate()


class FakeTrainers:
    """The one trainer."""

    def __init__(self, trainer: FakeTrainer) -> None:
        self._trainer = trainer

    async def get(self, _learner: str) -> FakeTrainer:
        return self._trainer


async def live(root: Path, world: World, steps: Steps) -> None:
    """A client's life: until the job is over, or it is killed."""

    async def push(_session: object, update: Any, _pace: object) -> None:
        content = update.path.read_bytes()
        world.begun[len(world.accepted) + 1].add(content)
        steps.take()
        world.accept(update.assignment_id, content)
        steps.take()

    async def fetch(*_: object, **__: object) -> None:
        steps.take()

    session: Any = SimpleNamespace(name="site-1", liveness_seconds=3600.0)
    with pytest.MonkeyPatch.context() as patch, Spool(root) as spool:
        patch.setattr(courier, "push_update", push)
        patch.setattr(courier, "fetch_file", fetch)
        with Ledger(spool.ledger, "somewhere:8470") as ledger:
            steps.watch(patch)
            trainers: Any = FakeTrainers(FakeTrainer(world, steps))
            worker = Worker(Courier(session, ledger), Gate(spool, ledger, "somewhere:8470"), spool, trainers)
            worker.settle(world.settlements(worker.unsettled()))
            while not world.over:
                await worker.perform(world.assignment())
                worker.settle(world.settlements(worker.unsettled()))


def lived(root: Path, world: World, steps: Steps) -> bool:
    """Whether the client came to its end without being killed."""
    try:
        asyncio.run(live(root, world, steps))
    except KilledError:
        return False
    return True

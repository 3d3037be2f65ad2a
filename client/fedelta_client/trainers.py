"""The client's trainers: a resident process for each learner that it offers."""

import asyncio
from collections.abc import Iterable

from fedelta.errors import ConfigError, LearnerError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.config import TrainerSettings
from fedelta_client.trainer import Trainer, WorkFailedError


class Resident:
    """Keeps one learner's trainer process at hand, and starts another one when that has died."""

    def __init__(self, settings: TrainerSettings) -> None:
        self.spec = settings.learner
        """What the learner was loaded by."""
        self._settings = settings
        self._trainer: Trainer | None = None

    async def get(self) -> Trainer:
        """The live trainer. Raises `WorkFailedError` where none can be started."""
        if self._trainer is None or not self._trainer.alive:
            await self.start()
        assert self._trainer is not None
        return self._trainer

    async def start(self) -> say.Ready:
        """Starts a trainer in place of the last one. Raises `WorkFailedError`, which names the learner."""
        await self.close()
        try:
            self._trainer, ready = await Trainer.start(self._settings)
        except WorkFailedError as error:
            raise WorkFailedError(error.kind, f"learner {self.spec} cannot be loaded: {error}") from None
        return ready

    def hurry(self) -> None:
        """From now on a trainer that is to stop is killed instead of asked."""
        if self._trainer is not None:
            self._trainer.patience = 0.0

    async def close(self) -> None:
        """Ends the trainer."""
        if self._trainer is not None:
            await self._trainer.close()
            self._trainer = None


class Trainers:
    """One `Resident` for each learner, found by the name under which jobs ask for it."""

    def __init__(self, settings: Iterable[TrainerSettings]) -> None:
        self._residents = [Resident(each) for each in settings]
        self._offered: dict[str, Resident] = {}

    async def start(self) -> list[say.Ready]:
        """Starts all, side by side; what each is ready for, in the order of the settings.

        Raises `LearnerError` naming the first learner that cannot be loaded, `ConfigError` where two have one name.
        """
        try:
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(resident.start()) for resident in self._residents]
        except ExceptionGroup as failed:
            error = failed.exceptions[0]
            raise (LearnerError(str(error)) if isinstance(error, WorkFailedError) else error) from None
        ready = [start.result() for start in starts]
        for resident, said in zip(self._residents, ready, strict=True):
            self._offer(said.learner, resident)
        return ready

    def _offer(self, name: str, resident: Resident) -> None:
        if name in self._offered:
            raise ConfigError(_same(name, self._offered[name].spec, resident.spec))
        self._offered[name] = resident

    async def get(self, learner: str) -> Trainer:
        """The live trainer of the learner of this name. Raises `WorkFailedError` where there is none."""
        if learner not in self._offered:
            offered = ", ".join(self._offered)
            raise WorkFailedError(
                pb.FAILURE_KIND_CLIENT, f"this client has no learner {learner!r}; it offers {offered}"
            )
        return await self._offered[learner].get()

    async def withdraw(self, learner: str) -> tuple[str, ...]:
        """Offers that learner no more and ends its trainer. Returns the names of those that are left."""
        await self._offered.pop(learner).close()
        return tuple(self._offered)

    def hurry(self) -> None:
        """From now on trainers that are to stop are killed instead of asked."""
        for resident in self._residents:
            resident.hurry()

    async def close(self) -> None:
        """Ends all trainers, side by side."""
        await asyncio.gather(*(resident.close() for resident in self._residents))


def _same(name: str, first: str, second: str) -> str:
    if first == second:
        return f"learner {first} is given twice; give it once, or run a second client with another --name"
    return (
        f"learners {first} and {second} are both called {name!r}; give one of the classes another `name`, or run a "
        "second client with another --name"
    )

"""What server optimizers have in common: a learning rate that goes along a schedule."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from msgspec import Meta

from fedelta.config import SchedulePart
from fedelta.parts import Schedule, Step, build

Rate = Annotated[float, Meta(gt=0, le=1e6)]


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """Base of server optimizers with a learning rate."""

    lr: Rate = 1.0
    """The learning rate."""
    schedule: SchedulePart = field(default_factory=SchedulePart)
    """How the learning rate goes with the rounds: a table with the name of a schedule and its parameters."""

    def __post_init__(self) -> None:
        """A schedule that cannot be made is an error at once. Raises `ConfigError`."""
        assert self._schedule is not None

    @cached_property
    def _schedule(self) -> Schedule:
        made: Schedule = build(self.schedule, "server_optimizer.schedule")
        return made

    def rate(self, step: Step) -> float:
        """The learning rate of a step."""
        return self.lr * self._schedule.factor(step)

"""A metric that is good enough."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import History
from fedelta_server.stopping._metric import values


@dataclass(frozen=True, kw_only=True)
class Target:
    """An evaluated version reaches a value of a metric."""

    metric: str = ""
    """The metric, such as "accuracy" or "central/loss". Empty: that by which the job compares versions."""
    at_least: float | None = None
    """The value to be reached, of a metric of which more is better."""
    at_most: float | None = None
    """The value to be reached, of a metric of which less is better."""
    reads_metrics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises `ValueError` where it does not say what is to be reached."""
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("say either at_least or at_most")

    def reason(self, history: History) -> str | None:
        """See `StopRule`."""
        found = values(history, self.metric).items()
        return next((self._reached(history, version, value) for version, value in found if self._holds(value)), None)

    def _holds(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def _reached(self, history: History, version: int, value: float) -> str:
        bound = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return f"version {version} has {self.metric or history.metric} {value:.6g}, {bound}"

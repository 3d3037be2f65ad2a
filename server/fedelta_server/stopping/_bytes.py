"""Enough traffic."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta._words import size
from fedelta.config import Size
from fedelta.parts import History


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """The training of the rounds moved so many payload bytes. A round that is open is finished."""

    up: Size | None = None
    """From the clients to the coordinator."""
    down: Size | None = None
    """From the coordinator to the clients."""
    total: Size | None = None
    """Both together."""
    reads_metrics: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises `ValueError` where it has no limit."""
        if self.up is self.down is self.total is None:
            raise ValueError("say up, down or total")

    def reason(self, history: History) -> str | None:
        """See `StopRule`."""
        up = sum(each.bytes_up for each in history.rounds)
        down = sum(each.bytes_down for each in history.rounds)
        moved = {"up": (up, self.up), "down": (down, self.down), "in all": (up + down, self.total)}
        for way, (count, limit) in moved.items():
            if limit is not None and count >= limit:
                return f"its rounds moved {size(count)} {way}, and the limit is {size(limit)}"
        return None

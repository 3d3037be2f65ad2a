"""The points of a trainer process: what the learner reaches by itself, and the answers to the runtime."""

import sys
from typing import Any

from tests.faults.orders import Points

VARIABLE = "FAULTS_TRAINER"
"""Where the trainer's orders are; the launcher of the client sets it, and only the learner of this suite reads it."""


def install(points: Points) -> None:
    """To be called in the trainer process, whose main module is the trainer itself."""
    line: Any = sys.modules["__main__"].Line
    answer = line.answer

    def watched(self: Any, message: Any) -> None:
        said = type(message).__name__
        points.reach("before answer", said)
        answer(self, message)
        points.reach("after answer", said)

    line.answer = watched

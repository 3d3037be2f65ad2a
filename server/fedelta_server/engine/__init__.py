"""The round engine: a pure state machine. Events in; records and effects out.

No sockets, clocks or disks. `Engine.handle` decides, and what it decides are *records*: facts which the caller
commits in one transaction before it runs the step's *effects*. The engine's own state changes only by applying
records, so that the same records, read back from the store, rebuild it.
"""

from fedelta_server.engine._engine import Engine
from fedelta_server.engine._state import LIVENESS_SECONDS, Assignment, Client, Job, Made, ModelRef, StateRef, task_seed
from fedelta_server.engine._work import Step

__all__ = [
    "LIVENESS_SECONDS",
    "Assignment",
    "Client",
    "Engine",
    "Job",
    "Made",
    "ModelRef",
    "StateRef",
    "Step",
    "task_seed",
]

"""The round engine: a pure state machine. Events in; records and effects out.

No sockets, clocks or disks. `Engine.handle` decides, and what it decides are *records*: facts which the caller
commits in one transaction before it runs the step's *effects*. The engine's own state changes only by applying
records, so that the same records, read back from the store, rebuild it.
"""

from fedelta_server.engine._client import LIVENESS_SECONDS, Client
from fedelta_server.engine._engine import Engine
from fedelta_server.engine._phases import Assignment, task_seed
from fedelta_server.engine._refs import Made, ModelRef, StateRef
from fedelta_server.engine._state import Job
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

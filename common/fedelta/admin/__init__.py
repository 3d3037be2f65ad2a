"""What an operator does from a program: submit jobs, follow them, fetch models."""

from fedelta.admin._client import AdminClient
from fedelta.admin._types import (
    ClientInfo,
    ClientState,
    Event,
    JobExtended,
    JobInfo,
    JobState,
    ModelInfo,
    Outcome,
    Participation,
    ParticipationEnded,
    Phase,
    PhaseOpened,
    RoundClosed,
    RoundFailed,
    RoundInfo,
    StateChanged,
    VersionMade,
)

__all__ = [
    "AdminClient",
    "ClientInfo",
    "ClientState",
    "Event",
    "JobExtended",
    "JobInfo",
    "JobState",
    "ModelInfo",
    "Outcome",
    "Participation",
    "ParticipationEnded",
    "Phase",
    "PhaseOpened",
    "RoundClosed",
    "RoundFailed",
    "RoundInfo",
    "StateChanged",
    "VersionMade",
]

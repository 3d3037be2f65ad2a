"""Federated learning over gRPC.

What users import. Nothing here brings in torch or grpc before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedelta.errors import FedeltaError
from fedelta.learner import EvalResult, Learner, Task, TrainResult

if TYPE_CHECKING:
    from fedelta.admin import AdminClient
    from fedelta.models import load_state

__version__ = "0.1.0"

__all__ = ["AdminClient", "EvalResult", "FedeltaError", "Learner", "Task", "TrainResult", "__version__", "load_state"]

_LAZY = {"AdminClient": "fedelta.admin", "load_state": "fedelta.models"}
"""Public names that cost time to import, and where they are: found on first use (PEP 562)."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Federated learning over gRPC.

What users import. Nothing here brings in torch or grpc before it is used.
"""

from fedelta.errors import FedeltaError
from fedelta.learner import EvalResult, Learner, Task, TrainResult

__version__ = "0.1.0"

__all__ = ["EvalResult", "FedeltaError", "Learner", "Task", "TrainResult", "__version__"]

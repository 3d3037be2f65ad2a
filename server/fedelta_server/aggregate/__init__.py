"""Admission of tensor files, and the fold of updates into the next model version. Blocking code for threads."""

from fedelta_server.aggregate._distance import distance
from fedelta_server.aggregate._fold import Folded, WeightedUpdate, fold
from fedelta_server.aggregate.admission import (
    Admitted,
    Stored,
    admit_model,
    admit_update,
    check_weight,
    file_digest,
    import_model,
    read_schema,
)
from fedelta_server.aggregate.parts import (
    Accumulator,
    Aggregator,
    Mean,
    Needs,
    ServerOptimizer,
    Sgd,
    Sum,
    build_aggregator,
    build_optimizer,
)

__all__ = [
    "Accumulator",
    "Admitted",
    "Aggregator",
    "Folded",
    "Mean",
    "Needs",
    "ServerOptimizer",
    "Sgd",
    "Stored",
    "Sum",
    "WeightedUpdate",
    "admit_model",
    "admit_update",
    "build_aggregator",
    "build_optimizer",
    "check_weight",
    "distance",
    "file_digest",
    "fold",
    "import_model",
    "read_schema",
]

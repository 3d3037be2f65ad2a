"""Admission of tensor files, and the fold of updates into the next model version. Blocking code for threads."""

from fedelta_server.aggregate._distance import distance
from fedelta_server.aggregate._fold import Folded, WeightedUpdate, fold
from fedelta_server.aggregate._state import Carry, state_groups
from fedelta_server.aggregate.admission import (
    Admitted,
    Stored,
    admit_model,
    admit_update,
    check_facts,
    check_weight,
    file_digest,
    import_model,
    read_schema,
)

__all__ = [
    "Admitted",
    "Carry",
    "Folded",
    "Stored",
    "WeightedUpdate",
    "admit_model",
    "admit_update",
    "check_facts",
    "check_weight",
    "distance",
    "file_digest",
    "fold",
    "import_model",
    "read_schema",
    "state_groups",
]

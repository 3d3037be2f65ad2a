"""What a plan does at the clients: the parts of `[local]`, and what of a job an assignment brings along.

Nothing here imports torch before a part trains.
"""

from fedelta.local._exchange import given_by, read_shared
from fedelta.local._facts import telling
from fedelta.local._parts import FedDyn, FedNova, FedProx, FedSgd, Plain, Scaffold
from fedelta.local._plan import KNOWN_FACTS, NO_PLAN, ClientPlan, client_plan, local_part, read_plan

__all__ = [
    "KNOWN_FACTS",
    "NO_PLAN",
    "ClientPlan",
    "FedDyn",
    "FedNova",
    "FedProx",
    "FedSgd",
    "Plain",
    "Scaffold",
    "client_plan",
    "given_by",
    "local_part",
    "read_plan",
    "read_shared",
    "telling",
]

"""The client's half of a plan, as it travels with an assignment."""

from functools import lru_cache
from typing import Any, Literal

import msgspec

from fedelta.config import JobSpec, LocalPart, Part
from fedelta.errors import ConfigError, LearnerError
from fedelta.parts import LocalTraining, build

KNOWN_FACTS = frozenset({"loss", "steps"})
"""What a client can say of an update beyond its learner's metrics.

"steps" is how many local steps the update is worth (`fedelta.local._counting`), "loss" the mean loss of the received
model on the local training data, before training.
"""


class ClientPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What of a job's plan concerns a client. A client that is too old for one of its fields refuses the assignment."""

    local: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": LocalPart.DEFAULT})
    """The job file's [local] table."""
    facts: tuple[str, ...] = ()
    """The numbers that the update is to bring with it: of `KNOWN_FACTS`, sorted."""
    tensors: Literal["all", "trainable"] = "all"
    """`model.tensors`."""
    personal: tuple[str, ...] = ()
    """`model.personal`."""
    seed: int = 0
    """The job's seed, from which each client makes the tensors that are not part of the job's model."""

    @property
    def splits(self) -> bool:
        """Whether some of the learner's tensors are not part of the job's model."""
        return self.tensors != "all" or bool(self.personal)

    @property
    def splitting(self) -> tuple[Any, ...]:
        """What decides which tensors are whose, and what they begin with; empty where all are the job's."""
        return (self.tensors, self.personal, self.seed) if self.splits else ()

    @property
    def part_name(self) -> str:
        """The name of the part of [local]."""
        return str(self.local["name"])


NO_PLAN = ClientPlan()
"""Plain training of the whole model."""


def client_plan(spec: JobSpec) -> str:
    """The client's half of a job's plan as JSON; empty where that is plain training of the whole model.

    Raises `ConfigError` where a part is not installed or has a wrong parameter.
    """
    plan = ClientPlan(
        local=spec.local.table,
        facts=_facts(spec.local, spec.aggregator),
        tensors=spec.model.tensors,
        personal=spec.model.personal,
    )
    if plan.splits:
        plan = msgspec.structs.replace(plan, seed=spec.job.seed)
    return "" if plan == NO_PLAN else msgspec.json.encode(plan, order="deterministic").decode()


def read_plan(text: str) -> ClientPlan:
    """Reads what `client_plan` made. Raises `LearnerError` where this client is too old for it."""
    try:
        return msgspec.json.decode(text or "{}", type=ClientPlan)
    except msgspec.MsgspecError as error:
        raise LearnerError(f"this client cannot read the job's plan ({error}); is fedelta too old here?") from None


def local_part(plan: ClientPlan) -> LocalTraining:
    """The part of [local]. Raises `LearnerError` where this client does not have it."""
    try:
        part: LocalTraining = build(LocalPart.parse(plan.local))
    except (ConfigError, ValueError) as error:
        raise LearnerError(f"this client cannot train as the job's [local] says: {error}") from None
    return part


@lru_cache(maxsize=256)
def _facts(*parts: Part) -> tuple[str, ...]:
    """What the parts want to know of an update. Finding a part by name is too slow for every assignment."""
    return tuple(sorted({fact for part in parts for fact in build(part).facts}))

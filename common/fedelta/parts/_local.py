"""Local training: what a plan adds to the training at the clients."""

from typing import ClassVar, Protocol

from fedelta.parts._site import LocalResult, Site


class LocalTraining(Protocol):
    """A frozen dataclass with the job file's parameters as its fields. Importing its module needs no torch.

    The coordinator reads only the declarations, which say what it takes of the rest of the plan.
    """

    shared: ClassVar[tuple[str, ...]]
    """Names of tensors that coordinator and clients share for each float tensor of the model, of the same shape, such
    as SCAFFOLD's "control". They begin as zeros. Clients get them with the model, and send how they changed theirs;
    each version adds clients / population times the plain mean of that."""
    facts: ClassVar[frozenset[str]]
    """The numbers that each update brings with it, by name, such as "steps"."""
    keeps_state: ClassVar[bool]
    """Whether something of it stays at the client from one assignment to the next."""

    def train(self, site: Site) -> LocalResult:
        """Trains at a client: `site.train()` with what the part adds to it.

        Raises `LearnerError` where it cannot be added to what the learner does: never trains without it.
        """
        ...

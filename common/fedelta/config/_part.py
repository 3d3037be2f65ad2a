"""A part of a plan, as a job file names it: `name = "..."`, and beside it the part's own parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class Part:
    """A named part and its parameters, not checked yet: what they may be, the part itself says when the plan is built.

    So a job file can be read where the part is not installed.
    """

    SLOT: ClassVar[str] = ""
    """The table's key in the job file: what the part is for."""
    DEFAULT: ClassVar[str] = ""
    """The part that is meant where the table does not name one. Empty: it must."""
    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"name": {"description": "Which part.", "type": "string"}},
    }
    """What editors check where nothing is known of the parts that are installed."""
    IS_TABLE: ClassVar[bool] = True
    """Its keys are free as far as the job file's schema goes."""

    def __init__(self, name: str = "", parameters: Mapping[str, Any] | None = None) -> None:
        self.name = name or self.DEFAULT
        self.parameters: Mapping[str, Any] = dict(parameters or {})

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads a table. Raises `ValueError`."""
        if not isinstance(value, Mapping):
            raise ValueError(f'expected a table with a name, such as {{ name = "{cls.DEFAULT or "..."}" }}')
        name = value.get("name", cls.DEFAULT)
        if not isinstance(name, str) or not name:
            raise ValueError("the part needs a name; `fedelta parts list` shows those there are")
        return cls(name, {key: each for key, each in value.items() if key != "name"})

    @property
    def table(self) -> dict[str, Any]:
        """As TOML has it."""
        return {"name": self.name, **self.parameters}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.SLOT, self.table) == (other.SLOT, other.table)

    def __hash__(self) -> int:
        return hash((self.SLOT, self.name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.parameters!r})"


class AggregatorPart(Part):
    """[aggregator]: how updates become one."""

    SLOT = "aggregator"
    DEFAULT = "mean"


class ServerOptimizerPart(Part):
    """[server_optimizer]: how the aggregated delta changes the model."""

    SLOT = "server_optimizer"
    DEFAULT = "sgd"


class SchedulePart(Part):
    """`schedule` of a server optimizer: how its learning rate goes with the rounds."""

    SLOT = "schedule"
    DEFAULT = "constant"


class SelectorPart(Part):
    """[selector]: which of the ready clients train in a round."""

    SLOT = "selector"
    DEFAULT = "uniform"


class LocalPart(Part):
    """[local]: what is added to the training at the clients."""

    SLOT = "local"
    DEFAULT = "plain"


class StopPart(Part):
    """[[stop]]: a rule that ends the job before `rounds.max`."""

    SLOT = "stop"

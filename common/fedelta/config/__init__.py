"""Configuration: frozen dataclasses are the schema; TOML files, the environment and flags bind to it.

A field's type with its bounds says what is right, the docstring under it what it means. Flags, environment
variables, error messages and the reference page follow from that.
"""

from fedelta.config._address import Address
from fedelta.config._bind import bind_part
from fedelta.config._duration import Duration
from fedelta.config._job import (
    FIRST_CLIENT,
    MAX_COUNT,
    EvaluateConfig,
    JobConfig,
    JobSpec,
    Label,
    ModelConfig,
    RoundsConfig,
    load_job,
    parse_job,
)
from fedelta.config._json import json_schema, table_schema
from fedelta.config._kinds import Notes
from fedelta.config._layers import Layers
from fedelta.config._origin import Version, parse_origin
from fedelta.config._part import (
    AggregatorPart,
    LocalPart,
    Part,
    SchedulePart,
    SelectorPart,
    ServerOptimizerPart,
    StopPart,
)
from fedelta.config._secret import Secret
from fedelta.config._size import Size
from fedelta.config._sources import bind, layered

__all__ = [
    "FIRST_CLIENT",
    "MAX_COUNT",
    "Address",
    "AggregatorPart",
    "Duration",
    "EvaluateConfig",
    "JobConfig",
    "JobSpec",
    "Label",
    "Layers",
    "LocalPart",
    "ModelConfig",
    "Notes",
    "Part",
    "RoundsConfig",
    "SchedulePart",
    "Secret",
    "SelectorPart",
    "ServerOptimizerPart",
    "Size",
    "StopPart",
    "Version",
    "bind",
    "bind_part",
    "json_schema",
    "layered",
    "load_job",
    "parse_job",
    "parse_origin",
    "table_schema",
]

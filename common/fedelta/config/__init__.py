"""Configuration: frozen dataclasses are the schema, TOML is the notation."""

from fedelta.config._bind import bind
from fedelta.config._duration import Duration
from fedelta.config._job import (
    FIRST_CLIENT,
    MAX_COUNT,
    AggregatorConfig,
    EvaluateConfig,
    JobConfig,
    JobSpec,
    ModelConfig,
    RoundsConfig,
    ServerOptimizerConfig,
    load_job,
    parse_job,
)

__all__ = [
    "FIRST_CLIENT",
    "MAX_COUNT",
    "AggregatorConfig",
    "Duration",
    "EvaluateConfig",
    "JobConfig",
    "JobSpec",
    "ModelConfig",
    "RoundsConfig",
    "ServerOptimizerConfig",
    "bind",
    "load_job",
    "parse_job",
]

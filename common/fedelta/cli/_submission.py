"""A job file on its way to the coordinator: what the environment and --set change in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedelta.config import JobSpec, Layers
from fedelta.config._job import require_model
from fedelta.config._sources import from_assignments, from_environment, from_table, read_toml

_INIT = ("model", "init")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is submitted."""

    layers: Layers[JobSpec]
    spec: JobSpec
    text: str
    """The job file; as it stands where nothing changes it."""


def submission(file: Path, assignments: tuple[str, ...], environment: Mapping[str, str]) -> Submission:
    """The job of a file, under the variables of a job and then the assignments. Raises `ConfigError`."""
    table, text = read_toml(file)
    layers = Layers(JobSpec)
    layers.file = str(file)
    layers.add(from_table(JobSpec, table, str(file)))
    layers.add(from_environment(JobSpec, JobSpec.ENVIRONMENT, environment))
    layers.add(from_assignments(JobSpec, assignments, "--set"))
    require_model(layers.table, str(file))
    spec = layers.bind()
    if not layers.overrides:
        return Submission(layers=layers, spec=spec, text=text)
    if _INIT in layers.overrides and spec.model.file is not None:
        layers.table["model"]["init"] = _seen_from(file.parent, spec.model.file)
    return Submission(layers=layers, spec=layers.bind(), text=_written(layers, file))


def _seen_from(directory: Path, path: str) -> str:
    """A path of the working directory as the job file has it: relative to itself."""
    return path if Path(path).is_absolute() else os.path.relpath(path, directory)


def _written(layers: Layers[Any], file: Path) -> str:
    import tomli_w

    names = sorted({source.name for source in layers.overrides.values()})
    return f"# {file.name}, changed by {', '.join(names)}\n\n{tomli_w.dumps(layers.table)}"

"""The job that is simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedelta.cli._submission import submission
from fedelta.config import FIRST_CLIENT, JobSpec, parse_job, parse_origin
from fedelta.errors import ConfigError
from fedelta_server.aggregate import import_model
from fedelta_server.engine import ModelRef
from fedelta_server.store.files import Files


@dataclass(frozen=True, kw_only=True)
class SimulatedJob:
    """A job file that was read."""

    spec: JobSpec
    text: str
    folder: Path
    """What `model.init` is relative to."""

    def initial(self, files: Files) -> ModelRef | None:
        """Version 0, in the files. None: a client makes it.

        Raises `ConfigError` where it is another job's version, or the file is not there; `PayloadError` where the
        file holds no model.
        """
        init = self.spec.model.init
        if parse_origin(init) is not None:
            raise ConfigError(
                f"model.init = {init!r}: a simulation has no coordinator with other jobs. Write that version to a file "
                "with `fedelta model export` and name the file"
            )
        if init == FIRST_CLIENT:
            return None
        source = self.folder / init
        if not source.is_file():
            raise ConfigError(f"model.init = {init!r}: there is no file {source}")
        out = files.temp(".model")
        stored = import_model(source, out)
        files.keep_model(out, stored.digest)
        return ModelRef(0, stored.digest, stored.length)


def read_job(
    job: str | Path | Mapping[str, Any], changes: Sequence[str], environment: Mapping[str, str]
) -> SimulatedJob:
    """The job of a file, or of tables as a job file has them, under the same changes as when it is submitted.

    Raises `ConfigError`.
    """
    if isinstance(job, Mapping):
        return _of_tables(job, changes)
    found = submission(Path(job), tuple(changes), environment)
    return SimulatedJob(spec=found.spec, text=found.text, folder=Path(job).parent)


def _of_tables(tables: Mapping[str, Any], changes: Sequence[str]) -> SimulatedJob:
    if changes:
        raise ConfigError("changes are for job files; change the tables themselves")
    import tomli_w

    text = tomli_w.dumps(tables)
    return SimulatedJob(spec=parse_job(text, "job"), text=text, folder=Path())

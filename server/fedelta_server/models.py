"""Initial models that operators bring."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from fedelta.config import FIRST_CLIENT, JobSpec, Version, parse_origin
from fedelta.errors import ConfigError, DigestMismatchError, NotFoundError
from fedelta_server.aggregate import file_digest, import_model
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import ModelRef
from fedelta_server.uploads import Announced, Uploads
from fedelta_server.versions import Versions


@dataclass(frozen=True)
class StoredModel:
    """A model in the store: the digest and length of its canonical file."""

    digest: bytes
    length: int


@dataclass(frozen=True)
class InitialModel:
    """What a job starts from."""

    model: ModelRef | None
    """None: its first client makes it."""
    origin: str = ""
    """The version of another job that it is, as "JOB@VERSION"."""


class ModelImports:
    """Receives model files and finds those that were received."""

    def __init__(self, coordinator: Coordinator, uploads: Uploads, versions: Versions) -> None:
        self._coordinator = coordinator
        self._uploads = uploads
        self._versions = versions

    async def receive(self, digest: bytes, length: int, chunks: AsyncIterator[memoryview]) -> StoredModel:
        """Stores an uploaded model file in canonical form. Raises a `PayloadError` where it is none."""
        key = f"model-{digest.hex()[:16]}"
        async with self._uploads.only(key) as stream:
            try:
                announced = Announced(key=key, digest=digest, length=length, offset=0)
                path = await self._uploads.receive(stream, announced, chunks, lambda _: None)
                return await self._coordinator.in_thread(self._import, path, digest)
            finally:
                await self._coordinator.in_thread(self._coordinator.files.drop_upload, key)

    async def initial(self, spec: JobSpec, digest: bytes) -> InitialModel:
        """The model a job starts from. Raises `ConfigError`, or `NotFoundError` for another job's version."""
        origin = parse_origin(spec.model.init)
        if origin is not None:
            return await self._of_another_job(spec.model.init, *origin)
        if spec.model.init == FIRST_CLIENT:
            return InitialModel(None)
        return InitialModel(self._uploaded(spec, digest))

    async def _of_another_job(self, init: str, job_id: str, version: Version) -> InitialModel:
        try:
            found = await self._versions.resolve(job_id, version)
        except NotFoundError as error:
            raise NotFoundError(f"model.init = {init!r}: {error}") from None
        return InitialModel(ModelRef(0, found.digest, found.length), f"{job_id}@{found.version}")

    def _uploaded(self, spec: JobSpec, digest: bytes) -> ModelRef:
        files = self._coordinator.files
        if len(digest) != 32 or not files.has_model(digest):
            raise ConfigError(
                f"model.init = {spec.model.init!r}: upload the model first; `fedelta job submit` does both"
            )
        return ModelRef(0, digest, files.model_path(digest).stat().st_size)

    def _import(self, path: Path, digest: bytes) -> StoredModel:
        if file_digest(path) != digest:
            raise DigestMismatchError("the model file was garbled on the way; try again")
        out = self._coordinator.files.temp(".model")
        try:
            stored = StoredModel(*import_model(path, out))
            self._coordinator.files.keep_model(out, stored.digest)
        finally:
            out.unlink(missing_ok=True)
        return stored

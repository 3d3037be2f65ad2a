"""Making a version: what the engine asks for, done in files. Blocking code for a thread."""

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fedelta_server.aggregate import Folded, WeightedUpdate, build_aggregator, build_optimizer, fold
from fedelta_server.engine import Job, effects
from fedelta_server.manifest import encode, manifest_of
from fedelta_server.store.files import Files


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version that was made. Its files are durable."""

    digest: bytes
    length: int
    manifest: bytes
    """The digest of its manifest."""


def make_version(files: Files, job: Job, effect: effects.Fold) -> Version:
    """Folds the updates of a round, and makes the new model and then its manifest durable.

    Done again after it was cut short it gives the same bytes. Raises `FedeltaError`.
    """
    folded = _fold_files(files, job, effect)
    written = encode(manifest_of(effect, job.toml, folded.digest, folded.length))
    files.keep_manifest(written, job.id, effect.round)
    return Version(digest=folded.digest, length=folded.length, manifest=blake3(written).digest())


def _fold_files(files: Files, job: Job, effect: effects.Fold) -> Folded:
    base, out = files.model_path(effect.base.digest), files.temp(".model")
    parts = build_aggregator(job.spec.aggregator), build_optimizer(job.spec.server_optimizer)
    updates = [WeightedUpdate(each.client, _path(files, effect, each), each.examples) for each in effect.updates]
    try:
        folded = fold(base, updates, out, *parts)
        files.keep_model(out, folded.digest)
    finally:
        out.unlink(missing_ok=True)
    return folded


def _path(files: Files, effect: effects.Fold, update: effects.FoldUpdate) -> Path:
    return files.update_path(effect.job, effect.round, effect.attempt, update.client)

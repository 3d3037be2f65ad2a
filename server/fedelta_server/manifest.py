"""Manifests: what each model version was made of, in a small JSON file of its own.

The bytes of a manifest follow from what was folded and from nothing else, neither times nor machines: a fold that was
cut short and is done again writes the same. Each names the manifest before it by its digest, and the journal names
each, so that whoever knows one digest can check all that lies before it. All digests are BLAKE3-256, in hexadecimal.
"""

import msgspec
from blake3 import blake3

from fedelta.errors import StorageError
from fedelta_server.engine import effects

FORMAT = 1


class FoldedUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An update that is in the version."""

    client: str
    weight: int
    """For how many examples it counts."""
    digest: str
    length: int


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The version before."""

    model: str
    manifest: str
    """Empty where it has none: version 0 is nobody's update, and older versions of fedelta wrote no manifests."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The model file of the version."""

    digest: str
    length: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version was made of."""

    format: int = FORMAT
    job: str
    version: int
    attempt: int
    plan: str
    """The digest of the job file's text: aggregator and server optimizer are named there."""
    parent: Parent
    updates: list[FoldedUpdate]
    """In the order in which they were folded: by client name."""
    model: Result


_decoder = msgspec.json.Decoder(Manifest)


def plan_digest(toml: str) -> str:
    """The digest of a job file's text."""
    return blake3(toml.encode()).hexdigest()


def manifest_of(fold: effects.Fold, toml: str, digest: bytes, length: int) -> Manifest:
    """The manifest of what a fold made: a model file with this digest and length."""
    return Manifest(
        job=fold.job,
        version=fold.round,
        attempt=fold.attempt,
        plan=plan_digest(toml),
        parent=Parent(model=fold.base.digest.hex(), manifest=fold.base_manifest.hex()),
        updates=[
            FoldedUpdate(client=each.client, weight=each.examples, digest=each.digest.hex(), length=each.length)
            for each in sorted(fold.updates, key=lambda update: update.client)
        ],
        model=Result(digest=digest.hex(), length=length),
    )


def encode(manifest: Manifest) -> bytes:
    """The bytes of the file: one line of JSON with sorted keys."""
    return msgspec.json.encode(manifest, order="sorted") + b"\n"


def decode(data: bytes) -> Manifest:
    """The manifest in a file. Raises `StorageError` where there is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageError(f"not a manifest: {error}") from None

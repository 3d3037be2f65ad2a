"""Manifests: what each model version was made of, in a small JSON file of its own.

The bytes of a manifest follow from what was folded and from nothing else, neither times nor machines: a fold that was
cut short and is done again writes the same. Each names the manifest before it by its digest, and the journal names
each, so that whoever knows one digest can check all that lies before it. All digests are BLAKE3-256, in hexadecimal.
"""

import msgspec
from blake3 import blake3

from fedelta.errors import StorageError
from fedelta.parts import Step
from fedelta_server.aggregate import Folded
from fedelta_server.engine import Job, effects

FORMAT = 2
"""Format 1 knew no state, facts or staleness; what it had means the same."""


class FoldedUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An update that is in the version."""

    client: str
    weight: int
    """For how many examples it counts."""
    digest: str
    length: int
    facts: dict[str, float] = {}
    """What the client gave beside it for the plan."""
    staleness: int = 0
    """How many versions were made since the one that it started from; its discount follows from the job file."""
    round: int = 0
    """The round and the attempt of its assignment. Format 1 has none: they are those of the version."""
    attempt: int = 0


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The version before."""

    model: str
    manifest: str
    """Empty where it has none: version 0 is nobody's update, and older versions of fedelta wrote no manifests."""
    state: str = ""
    """The file with the state of the plan's parts. Empty: none was made yet, or the plan keeps none."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was made with the version."""

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
    """In the order in which they were folded: by client name, or in asynchronous rounds as they were accepted."""
    model: Result
    state: Result | None = None
    """What the plan's parts keep for the next version."""
    norm: float = 0.0
    """The Euclidean norm of what the model was changed by."""
    rounds: int = 0
    """How many rounds the job was to run, for schedules."""
    population: int = 0
    """How many clients could have been drawn."""

    @property
    def step(self) -> Step:
        """Which step of the server optimizer it was."""
        return Step(version=self.version, rounds=self.rounds, clients=len(self.updates), population=self.population)


_decoder = msgspec.json.Decoder(Manifest)


def plan_digest(toml: str) -> str:
    """The digest of a job file's text."""
    return blake3(toml.encode()).hexdigest()


def manifest_of(fold: effects.Fold, job: Job, step: Step, folded: Folded) -> Manifest:
    """The manifest of what a fold made in this step."""
    return Manifest(
        job=fold.job,
        version=fold.round,
        attempt=fold.attempt,
        plan=plan_digest(job.toml),
        parent=Parent(
            model=fold.base.digest.hex(),
            manifest=fold.base_manifest.hex(),
            state="" if fold.state is None else fold.state.digest.hex(),
        ),
        updates=[_folded(each) for each in fold.updates],
        model=Result(digest=folded.digest.hex(), length=folded.length),
        state=None if folded.state is None else Result(digest=folded.state.digest.hex(), length=folded.state.length),
        norm=folded.norm,
        rounds=step.rounds,
        population=step.population,
    )


def _folded(update: effects.FoldUpdate) -> FoldedUpdate:
    return FoldedUpdate(
        client=update.client,
        weight=update.examples,
        digest=update.digest.hex(),
        length=update.length,
        facts=dict(update.facts),
        staleness=update.staleness,
        round=update.round,
        attempt=update.attempt,
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

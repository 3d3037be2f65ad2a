"""Making a version: what the engine asks for, done in files. Blocking code for a thread."""

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fedelta.parts import Step
from fedelta_server.aggregate import Carry, Folded, WeightedUpdate, fold
from fedelta_server.engine import Job, StateRef, effects
from fedelta_server.manifest import encode, manifest_of
from fedelta_server.plan import Plan, plan_of
from fedelta_server.store.files import Files


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version that was made. Its files are durable."""

    digest: bytes
    length: int
    manifest: bytes
    """The digest of its manifest."""
    state: StateRef | None
    """The file with the state of the plan's parts, if they keep any."""
    norm: float
    """The Euclidean norm of what the model was changed by."""


def make_version(files: Files, job: Job, effect: effects.Fold) -> Version:
    """Folds the updates of a round, and makes the new model, its state and then its manifest durable.

    Done again after it was cut short it gives the same bytes. Raises `FedeltaError`.
    """
    step = step_of(effect, job.rounds_max)
    folded = _fold_files(files, plan_of(job.spec), job.spec.rounds.staleness_exponent, step, effect)
    written = encode(manifest_of(effect, job, step, folded))
    files.keep_manifest(written, job.id, effect.round)
    state = None if folded.state is None else StateRef(folded.state.digest, folded.state.length)
    return Version(
        digest=folded.digest,
        length=folded.length,
        manifest=blake3(written).digest(),
        state=state,
        norm=folded.norm,
    )


def step_of(effect: effects.Fold, rounds: int) -> Step:
    """Which step of the server optimizer a fold is, in a job of so many rounds."""
    clients = len(effect.updates)
    return Step(version=effect.round, rounds=rounds, clients=clients, population=max(clients, effect.population))


def discount(staleness: int, exponent: float) -> float:
    """What an update counts for that started from a version so many versions ago (FedBuff, Nguyen et al. 2022).

    A fresh one counts fully: 1 / (1 + staleness) ** exponent.
    """
    return float(1.0 / (1.0 + staleness) ** exponent)


def _fold_files(files: Files, plan: Plan, exponent: float, step: Step, effect: effects.Fold) -> Folded:
    out, state = files.temp(".model"), files.temp(".state")
    source = None if effect.state is None else files.state_path(effect.job, effect.base.version)
    carry = Carry(shared=plan.local.shared, source=source, target=state)
    base = files.model_path(effect.base.digest)
    updates = [_update(files, effect, each, exponent) for each in effect.updates]
    try:
        folded = fold(base, updates, out, plan.aggregator, plan.optimizer, step=step, carry=carry)
        if folded.state is not None:
            files.keep_state(state, effect.job, effect.round)
        files.keep_model(out, folded.digest)
    finally:
        out.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
    return folded


def _update(files: Files, effect: effects.Fold, update: effects.FoldUpdate, exponent: float) -> WeightedUpdate:
    return WeightedUpdate(
        client=update.client,
        path=_path(files, effect, update),
        weight=update.examples,
        facts=update.facts,
        staleness=update.staleness,
        discount=discount(update.staleness, exponent),
    )


def _path(files: Files, effect: effects.Fold, update: effects.FoldUpdate) -> Path:
    return files.update_path(effect.job, update.round, update.attempt, update.client)

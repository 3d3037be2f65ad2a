"""The walk along a job's versions, from the first to the last."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from fedelta.config import JobSpec, parse_job
from fedelta.errors import FedeltaError
from fedelta.parts import Step
from fedelta_server.aggregate import Carry, Folded, WeightedUpdate, fold
from fedelta_server.audit._chain import Accepted, Chain, Told, newest_now, pruned_now
from fedelta_server.audit._links import check_file, check_manifest, check_records, differs, read_manifest
from fedelta_server.audit._report import Finding, Verdict, VersionReport
from fedelta_server.audit._trusted import Trusted
from fedelta_server.folding import discount
from fedelta_server.manifest import plan_digest
from fedelta_server.plan import Plan, plan_of
from fedelta_server.store.history import History
from fedelta_server.store.layout import Layout

NOT_KEPT = "not recomputed: its updates are not kept"


@dataclass
class _Notes:
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    """A version as files: its model, and what the plan's parts keep beside it, if they keep anything."""

    model: Path
    state: Path | None = None


class Audit:
    """Checks one job. Use it in a `with` statement: it holds the models that it recomputes in a temporary directory."""

    def __init__(self, state: Path, job: str, scratch: Path) -> None:
        self.chain = Chain.read(history := History(state), job)
        self.layout = Layout(state)
        self.scratch = scratch
        self._history = history
        self._steps: dict[int, Step] = {}
        """Of versions whose manifest says which steps they are."""
        self._models = Trusted(scratch)
        self._states = Trusted(scratch)

    @classmethod
    @contextmanager
    def of(cls, state: Path, job: str) -> Iterator["Audit"]:
        """An audit of a job. Raises `NotFoundError`, or `StorageError` where the journal cannot be read."""
        with TemporaryDirectory(prefix="fedelta-verify-") as scratch:
            yield cls(state, job, Path(scratch))

    @cached_property
    def spec(self) -> JobSpec:
        """The job file as it was submitted. Raises `ConfigError` where the journal has another text by now."""
        return parse_job(self.chain.toml, self.chain.job)

    @cached_property
    def plan(self) -> Plan:
        """The parts of the job. Raises `ConfigError` where they cannot be made here."""
        return plan_of(self.spec)

    def versions(self) -> Iterator[VersionReport]:
        """Checks version after version."""
        for told in self.chain.versions.values():
            yield self._version(told, self.chain.versions.get(told.number - 1))

    def fold(self, told: Told, base: Point, out: Point, *, without: str = "") -> Folded:
        """Folds the kept updates of a version into a base, as the coordinator does.

        What the plan's parts keep is written to `out.state`, if they keep anything.
        """
        exponent = self.spec.rounds.staleness_exponent
        updates = [self._update(each, exponent) for each in told.updates if each.client != without]
        shared = self.plan.local.shared
        carry = None if out.state is None else Carry(shared=shared, source=base.state, target=out.state)
        return fold(
            base.model,
            updates,
            out.model,
            self.plan.aggregator,
            self.plan.optimizer,
            step=self._step(told, len(updates)),
            carry=carry,
        )

    def _step(self, told: Told, clients: int) -> Step:
        known = self._steps.get(told.number)
        if known is None:  # an older fedelta made it, whose parts did not ask for steps
            return Step(version=told.number, rounds=self.spec.rounds.max, clients=clients, population=clients)
        return replace(known, clients=clients, population=max(clients, known.population))

    def update_path(self, update: Accepted) -> Path:
        """Where an update is, if it is kept."""
        client, round_, attempt = update.key
        return self.layout.update(self.chain.job, round_, attempt, client)

    def state_path(self, told: Told) -> Path | None:
        """Where the state that belongs to a version is, if it is kept. None: there is none."""
        return self.layout.state(self.chain.job, told.number) if told.state else None

    def _update(self, update: Accepted, exponent: float) -> WeightedUpdate:
        return WeightedUpdate(
            client=update.client,
            path=self.update_path(update),
            weight=update.weight,
            facts=update.facts,
            staleness=update.staleness,
            discount=discount(update.staleness, exponent),
        )

    def _version(self, told: Told, parent: Told | None) -> VersionReport:
        notes = _Notes(findings=list(check_records(told)))
        self._check_manifest(told, parent, notes)
        self._check_model(told, notes)
        self._check_state(told, notes)
        recomputed = self._check_updates(told, notes) and self._recompute(told, parent, notes)
        verdict = Verdict.RECOMPUTED if recomputed else Verdict.CHECKED
        return VersionReport(
            version=told.number,
            digest=told.digest.hex(),
            verdict=Verdict.BROKEN if notes.findings else verdict,
            findings=tuple(notes.findings),
            unchecked=tuple(notes.unchecked),
        )

    def _check_manifest(self, told: Told, parent: Told | None, notes: _Notes) -> None:
        if told.number == 0:
            return
        if parent is None:
            notes.findings.append(
                Finding(link=f"journal of round {told.number}", what=f"there is no version {told.number - 1} before it")
            )
        if not told.manifest:
            notes.unchecked.append("it has no manifest: an older fedelta made it")
            return
        found = read_manifest(self.layout.manifest(self.chain.job, told.number), told)
        if isinstance(found, Finding):
            notes.findings.append(found)
            return
        plan = plan_digest(self.chain.toml)
        notes.findings += check_manifest(found, told, parent, self.chain.job, plan)
        if found.rounds:
            self._steps[told.number] = found.step

    def _check_model(self, told: Told, notes: _Notes) -> None:
        path, link = self.layout.model(told.digest), f"model file of version {told.number}"
        try:
            finding = check_file(link, path, told.digest)
        except FileNotFoundError:
            if told.number in self.chain.pruned or told.number in pruned_now(self._history, self.chain.job):
                notes.unchecked.append("its model file was pruned")
            else:
                notes.findings.append(Finding(link=link, what="it is not there"))
            return
        if finding is None:
            self._models.trust(told.number, path)
        else:
            notes.findings.append(finding)

    def _check_state(self, told: Told, notes: _Notes) -> None:
        """A coordinator keeps the state of the newest version, and of those whose successors it can recompute."""
        path, link = self.state_path(told), f"state file of version {told.number}"
        if path is None:
            return
        try:
            finding = check_file(link, path, told.state)
        except FileNotFoundError:
            if told.number == max(self.chain.versions) == newest_now(self._history, self.chain.job):
                notes.findings.append(Finding(link=link, what="it is not there, and the job cannot go on without it"))
            return
        if finding is None:
            self._states.trust(told.number, path)
        elif path.exists():
            notes.findings.append(finding)

    def _check_updates(self, told: Told, notes: _Notes) -> bool:
        """Whether all updates are there and as they were."""
        if told.number == 0:
            notes.unchecked.append("nothing to recompute: the job starts from it")
            return False
        found = [self._check_update(each) for each in told.updates]
        broken = [each for each in found if isinstance(each, Finding)]
        notes.findings += broken
        if not all(found):
            notes.unchecked.append(NOT_KEPT)
        return bool(found) and all(found) and not broken

    def _check_update(self, update: Accepted) -> Finding | bool:
        """Whether it is kept, or what is wrong with it."""
        path = self.update_path(update)
        try:
            finding = check_file(str(update), path, update.digest)
        except FileNotFoundError:
            return False
        # Of an update that a running coordinator let go, the bytes are overwritten under the reader's eyes.
        return finding if finding is not None and path.exists() else finding is None

    def _recompute(self, told: Told, parent: Told | None, notes: _Notes) -> bool:
        base = self._base(told, parent, notes)
        if base is None:
            return False
        out = Point(self.scratch / f"{told.number}.safetensors", self.scratch / f"{told.number}.state")
        try:
            found = self.fold(told, base, out)
        except (FedeltaError, ValueError) as error:
            return self._not_folded(told, notes, f"its updates cannot be folded any more: {error}")
        difference = self._difference(found, told)
        if difference:
            return self._not_folded(told, notes, difference)
        self._models.trust(told.number, out.model)
        if out.state is not None and told.state:
            self._states.trust(told.number, out.state)
        return True

    def _base(self, told: Told, parent: Told | None, notes: _Notes) -> Point | None:
        """What a version is recomputed from. None: something of it is missing."""
        number = told.number - 1
        model, state = self._models.get(number), self._states.get(number)
        if model is None:
            notes.unchecked.append(f"not recomputed: the model of version {number} is not there or broken")
            return None
        if parent is not None and parent.state and state is None:
            notes.unchecked.append(f"not recomputed: the state of version {number} is not kept, or broken")
            return None
        return Point(model, state)

    def _difference(self, found: Folded, told: Told) -> str:
        """How what was recomputed differs from what is recorded; empty where it does not."""
        state = found.state.digest if found.state is not None else b""
        pairs: list[tuple[str, object, object]] = [
            ("digest", found.digest.hex(), told.digest.hex()),
            ("digest of the state", state.hex(), told.state.hex()),
        ]
        if told.number in self._steps:  # else an older fedelta made it, which did not measure the change
            pairs.append(("norm of the change", found.norm, told.norm))
        return next((differs(*each) for each in pairs if each[1] != each[2]), "")

    def _not_folded(self, told: Told, notes: _Notes, what: str) -> bool:
        if all(self.update_path(each).exists() for each in told.updates):
            notes.findings.append(Finding(link=f"version {told.number}, recomputed from its updates", what=what))
        else:
            notes.unchecked.append(NOT_KEPT)
        return False

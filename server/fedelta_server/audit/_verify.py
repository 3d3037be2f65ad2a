"""The walk along a job's versions, from the first to the last."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from fedelta.config import JobSpec, parse_job
from fedelta.errors import FedeltaError
from fedelta_server.aggregate import WeightedUpdate, fold
from fedelta_server.audit._chain import Chain, Told, pruned_now
from fedelta_server.audit._links import check_file, check_manifest, check_records, differs, read_manifest
from fedelta_server.audit._report import Finding, Verdict, VersionReport
from fedelta_server.manifest import plan_digest
from fedelta_server.plan import plan_of
from fedelta_server.store.history import History
from fedelta_server.store.layout import Layout

NOT_KEPT = "not recomputed: its updates are not kept"


@dataclass
class _Notes:
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


class Audit:
    """Checks one job. Use it in a `with` statement: it holds the models that it recomputes in a temporary directory."""

    def __init__(self, state: Path, job: str, scratch: Path) -> None:
        self.chain = Chain.read(history := History(state), job)
        self.layout = Layout(state)
        self.scratch = scratch
        self._history = history
        self._trusted: dict[int, Path] = {}
        """Files with the very bytes of a version: its own, or recomputed ones. Only of the last two versions."""

    @classmethod
    @contextmanager
    def of(cls, state: Path, job: str) -> Iterator["Audit"]:
        """An audit of a job. Raises `NotFoundError`, or `StorageError` where the journal cannot be read."""
        with TemporaryDirectory(prefix="fedelta-verify-") as scratch:
            yield cls(state, job, Path(scratch))

    @property
    def spec(self) -> JobSpec:
        """The job file as it was submitted. Raises `ConfigError` where the journal has another text by now."""
        return parse_job(self.chain.toml, self.chain.job)

    def versions(self) -> Iterator[VersionReport]:
        """Checks version after version."""
        for told in self.chain.versions.values():
            yield self._version(told, self.chain.versions.get(told.number - 1))

    def fold(self, told: Told, base: Path, out: Path, *, without: str = "") -> bytes:
        """Folds the kept updates of a version into a base, as the coordinator does; returns the result's digest."""
        plan = plan_of(self.spec)
        updates = [
            WeightedUpdate(name, self.update_path(told, name), each.weight)
            for name, each in told.updates.items()
            if name != without
        ]
        return fold(base, updates, out, plan.aggregator, plan.optimizer).digest

    def update_path(self, told: Told, client: str) -> Path:
        """Where an update of a version is, if it is kept."""
        return self.layout.update(self.chain.job, told.number, told.attempt, client)

    def _version(self, told: Told, parent: Told | None) -> VersionReport:
        notes = _Notes(findings=list(check_records(told)))
        self._check_manifest(told, parent, notes)
        self._check_model(told, notes)
        recomputed = self._check_updates(told, notes) and self._recompute(told, notes)
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
        else:
            plan = plan_digest(self.chain.toml)
            notes.findings += check_manifest(found, told, parent, self.chain.job, plan)

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
            self._trust(told.number, path)
        else:
            notes.findings.append(finding)

    def _check_updates(self, told: Told, notes: _Notes) -> bool:
        """Whether all updates are there and as they were."""
        if told.number == 0:
            notes.unchecked.append("nothing to recompute: the job starts from it")
            return False
        found = [self._check_update(told, client) for client in told.updates]
        broken = [each for each in found if isinstance(each, Finding)]
        notes.findings += broken
        if not all(found):
            notes.unchecked.append(NOT_KEPT)
        return bool(found) and all(found) and not broken

    def _check_update(self, told: Told, client: str) -> Finding | bool:
        """Whether it is kept, or what is wrong with it."""
        path = self.update_path(told, client)
        try:
            finding = check_file(f"update of {client} in round {told.number}", path, told.updates[client].digest)
        except FileNotFoundError:
            return False
        # Of an update that a running coordinator let go, the bytes are overwritten under the reader's eyes.
        return finding if finding is not None and path.exists() else finding is None

    def _recompute(self, told: Told, notes: _Notes) -> bool:
        base = self._trusted.get(told.number - 1)
        if base is None:
            notes.unchecked.append(f"not recomputed: the model of version {told.number - 1} is not there or broken")
            return False
        out = self.scratch / f"{told.number}.safetensors"
        try:
            found = self.fold(told, base, out)
        except FedeltaError as error:
            return self._not_folded(told, notes, f"its updates cannot be folded any more: {error}")
        if found != told.digest:
            return self._not_folded(told, notes, differs("digest", found.hex(), told.digest.hex()))
        self._trust(told.number, out)
        return True

    def _not_folded(self, told: Told, notes: _Notes, what: str) -> bool:
        if all(self.update_path(told, client).exists() for client in told.updates):
            notes.findings.append(Finding(link=f"version {told.number}, recomputed from its updates", what=what))
        else:
            notes.unchecked.append(NOT_KEPT)
        return False

    def _trust(self, number: int, path: Path) -> None:
        """From now on the file stands for the version. One recomputed before is needed no more."""
        known = self._trusted.setdefault(number, path)
        if known != path:
            path.unlink()
        old = self._trusted.pop(number - 2, None)
        if old is not None and old.parent == self.scratch:
            old.unlink()

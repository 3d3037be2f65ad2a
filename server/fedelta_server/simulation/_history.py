"""What came of a simulation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedelta_server.engine import records
from fedelta_server.engine.records import CENTRAL, Participation
from fedelta_server.engine.words import JobState, PhaseKind


@dataclass(frozen=True, kw_only=True)
class Version:
    """A model version that was made. `at` is here, as everywhere, in seconds on the simulation's clock."""

    number: int
    at: float
    digest: str
    """BLAKE3-256 of its file, in hexadecimal."""
    norm: float
    """The Euclidean norm of what the model was changed by; 0 for the initial model."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A closed round; its number is that of the version it made."""

    number: int
    at: float
    seconds: float
    """From opening (the last time) to closing."""
    attempts: int
    bytes_up: int
    """Of the updates that came."""
    bytes_down: int
    """Of the models that clients fetched, those apart that they had."""
    clients: tuple[Participation, ...]
    train_metrics: Mapping[str, float]
    """The learners' training metrics, averages weighted by examples."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A version's evaluation."""

    version: int
    at: float
    metrics: Mapping[str, float]
    """Averages over the clients, weighted by examples."""
    central: Mapping[str, float]
    """Of the clients that only evaluate."""
    clients: tuple[Participation, ...]

    @property
    def measured(self) -> dict[str, float]:
        """All averages by the names that a job file has for them: "accuracy", "central/accuracy"."""
        return {**self.metrics, **{f"{CENTRAL}{name}": value for name, value in self.central.items()}}


@dataclass(frozen=True, kw_only=True)
class History:
    """A simulated job."""

    job: str
    state: JobState
    reason: str
    """Why it is in that state; empty where the state says it all."""
    clients: tuple[str, ...]
    seconds: float
    """How long it took on the simulation's clock."""
    versions: tuple[Version, ...]
    rounds: tuple[Round, ...]
    evaluations: tuple[Evaluation, ...]
    failures: tuple[str, ...]
    """Attempts at rounds that ended without a result, each with its reason."""
    model: Path | None = None
    """The file that the newest version was written to, if one was asked for."""

    @property
    def digest(self) -> str:
        """Of the newest version; empty where there is none."""
        return self.versions[-1].digest if self.versions else ""

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """When each evaluated version was made, and what it reached, such as "accuracy" or "central/accuracy"."""
        made = {version.number: version.at for version in self.versions}
        reached = {each.version: each.measured for each in self.evaluations}
        return [(made[number], reached[number][metric]) for number in sorted(reached) if metric in reached[number]]

    def time_to(self, metric: str, target: float) -> float | None:
        """When the first version was made whose evaluation reached at least the target. None: none was."""
        return next((at for at, value in self.curve(metric) if value >= target), None)


@dataclass
class Chronicle:
    """Takes in records as they are made."""

    job: str = ""
    state: JobState = JobState.QUEUED
    reason: str = ""
    versions: list[Version] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    trained: bool = False
    """Whether a round of training was opened."""

    def take(self, at: float, record: records.Record) -> None:
        """Notes what of a record belongs to the history."""
        match record:
            case records.JobSubmitted():
                self._submitted(at, record)
            case records.JobStateChanged():
                self.state, self.reason = record.state, record.reason
            case records.PhaseOpened():
                self.trained = self.trained or record.phase is PhaseKind.TRAIN
            case records.VersionMade():
                self._version(at, record.version, record.digest, record.norm)
            case records.RoundClosed():
                self._closed(at, record)
            case records.EvaluationClosed():
                self._evaluated(at, record)
            case records.RoundFailed():
                self.failures.append(f"round {record.round}, attempt {record.attempt}: {record.reason}")

    def _submitted(self, at: float, record: records.JobSubmitted) -> None:
        self.job = record.job
        if record.digest:
            self._version(at, 0, record.digest, 0.0)

    def _version(self, at: float, number: int, digest: bytes, norm: float) -> None:
        self.versions.append(Version(number=number, at=at, digest=digest.hex(), norm=norm))

    def _closed(self, at: float, record: records.RoundClosed) -> None:
        closed = Round(
            number=record.number,
            at=at,
            seconds=record.seconds,
            attempts=record.attempts,
            bytes_up=record.bytes_up,
            bytes_down=record.bytes_down,
            clients=tuple(part for part in record.clients if part.phase is PhaseKind.TRAIN),
            train_metrics=record.train_metrics,
        )
        self.rounds.append(closed)

    def _evaluated(self, at: float, record: records.EvaluationClosed) -> None:
        seen = Evaluation(
            version=record.version,
            at=at,
            metrics=record.metrics,
            central=record.central,
            clients=tuple(record.clients),
        )
        self.evaluations.append(seen)

    def history(self, clients: tuple[str, ...], seconds: float, model: Path | None) -> History:
        """What it holds by now."""
        return History(
            job=self.job,
            state=self.state,
            reason=self.reason,
            clients=clients,
            seconds=seconds,
            versions=tuple(self.versions),
            rounds=tuple(self.rounds),
            evaluations=tuple(self.evaluations),
            failures=tuple(self.failures),
            model=model,
        )

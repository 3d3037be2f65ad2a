"""The versions of a job as the journal tells of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from fedelta.errors import NotFoundError
from fedelta_server.audit._report import Finding
from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.store.history import History, Row

_decoder = msgspec.json.Decoder(records.AnyRecord)


Key = tuple[str, int, int]
"""What tells an update from all others of a job: its client, and the round and the attempt of its assignment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """An update that was accepted."""

    key: Key
    weight: int
    digest: bytes
    length: int
    facts: Mapping[str, float]
    staleness: int

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.key[0]

    def __str__(self) -> str:
        return f"update of {self.client} in round {self.key[1]}"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the journal tells of one version."""

    number: int
    digest: bytes
    length: int
    attempt: int = 0
    manifest: bytes = b""
    state: bytes = b""
    """The digest of what the plan's parts keep beside it. Empty: nothing."""
    state_length: int = 0
    norm: float = 0.0
    folded: tuple[Key, ...] = ()
    """The updates that it names."""
    updates: tuple[Accepted, ...] = ()
    """The updates that were accepted for it, in the order in which they are folded."""
    closed: bytes | None = None
    """The digest that the end of its round names. None: that is still open, or the version is the initial one."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A job's versions, from the initial model on."""

    job: str
    toml: str
    versions: Mapping[int, Told]
    pruned: frozenset[int]
    findings: tuple[Finding, ...]
    """Records that do not fit."""

    @classmethod
    def read(cls, history: History, job: str) -> "Chain":
        """Reads a job's records. Raises `NotFoundError`."""
        telling = _Telling()
        findings = [Finding(link="journal file", what=each) for each in history.damage()]
        row = None
        for row in history.rows(job):
            record = _decode(row, job)
            findings += _faults(row, record)
            if isinstance(record, records.Record):
                telling.take(record)
        if row is None:
            known = ", ".join(history.jobs()) or "none"
            raise NotFoundError(f"there is no job {job!r} in this state; there are: {known}")
        return cls(
            job=job,
            toml=telling.toml,
            versions=dict(sorted(telling.versions.items())),
            pruned=frozenset(telling.pruned),
            findings=tuple(findings),
        )


def pruned_now(history: History, job: str) -> set[int]:
    """The versions of a job that are pruned by now: a coordinator may run beside the audit."""
    telling = _Telling()
    for body in history.bodies(job, records.VersionsPruned.__name__):
        telling.take(_decoder.decode(body))
    return telling.pruned


def newest_now(history: History, job: str) -> int:
    """The newest version of a job by now."""
    bodies = history.bodies(job, records.VersionMade.__name__)
    made = (_decoder.decode(body) for body in bodies)
    return max((each.version for each in made if isinstance(each, records.VersionMade)), default=0)


class _Telling:
    """Gathers what records tell, one after the other."""

    def __init__(self) -> None:
        self.toml = ""
        self.versions: dict[int, Told] = {}
        self.pruned: set[int] = set()
        self._accepted: list[Accepted] = []
        """Those that are in no version yet, in the order of acceptance."""

    def take(self, record: records.Record) -> None:
        match record:
            case records.JobSubmitted():
                self.toml = record.toml
                if record.digest:
                    self.versions[0] = Told(number=0, digest=record.digest, length=record.length)
            case records.ParticipationEnded() if _counts(record.participation):
                self._accepted.append(_accepted(record))
            case records.VersionMade():
                self.versions[record.version] = self._made(record)
            case records.RoundClosed() if record.number in self.versions:
                self.versions[record.number] = replace(self.versions[record.number], closed=record.digest)
            case records.VersionsPruned():
                self.pruned.update(record.versions)

    def _made(self, made: records.VersionMade) -> Told:
        return Told(
            number=made.version,
            digest=made.digest,
            length=made.length,
            attempt=made.attempt,
            manifest=made.manifest,
            state=made.state,
            state_length=made.state_length,
            norm=made.norm,
            folded=tuple(_folded(made)),
            updates=self._taken(made),
        )

    def _taken(self, made: records.VersionMade) -> tuple[Accepted, ...]:
        """The updates that belong into a version: those of its attempt, or in asynchronous rounds the next ones."""
        waiting, self._accepted = self._accepted, []
        if made.sources:
            self._accepted = waiting[len(made.sources) :]
            return tuple(waiting[: len(made.sources)])
        mine = (each for each in waiting if each.key[1:] == (made.version, made.attempt))
        return tuple(sorted(mine, key=lambda each: each.client))


def _folded(made: records.VersionMade) -> Iterator[Key]:
    sources = made.sources or [(made.version, made.attempt)] * len(made.clients)
    for client, (round_, attempt) in zip(made.clients, sources, strict=False):
        yield client, round_, attempt


def _accepted(ended: records.ParticipationEnded) -> Accepted:
    part = ended.participation
    return Accepted(
        key=(part.client, ended.round, ended.attempt),
        weight=part.examples,
        digest=ended.digest,
        length=ended.length,
        facts=part.facts,
        staleness=part.staleness,
    )


def _decode(row: Row, job: str) -> records.Record | str:
    """The record, or what is wrong with it."""
    try:
        record: records.Record = _decoder.decode(row.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    if (type(record).__name__, record.job) != (row.kind, job):
        return f"is filed as {row.kind} of {job}, but is {type(record).__name__} of {record.job}"
    return record


def _faults(row: Row, found: records.Record | str) -> Iterator[Finding]:
    link = f"journal record {row.sequence} ({row.kind})"
    if isinstance(found, str):
        yield Finding(link=link, what=found)
    if not row.tied:
        what = "it was changed after it was written, or one before it was removed: its link does not fit"
        yield Finding(link=link, what=what)


def _counts(part: records.Participation) -> bool:
    return part.phase is PhaseKind.TRAIN and part.outcome is Outcome.ACCEPTED

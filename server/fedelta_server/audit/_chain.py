"""The versions of a job as the journal tells of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from fedelta.errors import NotFoundError
from fedelta_server.audit._report import Finding
from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.store.history import History, Row

_decoder = msgspec.json.Decoder(records.AnyRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """An update that was accepted."""

    weight: int
    digest: bytes
    length: int


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the journal tells of one version."""

    number: int
    digest: bytes
    length: int
    attempt: int = 0
    manifest: bytes = b""
    clients: tuple[str, ...] = ()
    updates: Mapping[str, Accepted] = field(default_factory=dict)
    """By client: the updates of the attempt that were accepted."""
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


class _Telling:
    """Gathers what records tell, one after the other."""

    def __init__(self) -> None:
        self.toml = ""
        self.versions: dict[int, Told] = {}
        self.pruned: set[int] = set()
        self._updates: dict[str, Accepted] = {}
        """Those of the attempt that is told of."""
        self._attempt = (0, 0)

    def take(self, record: records.Record) -> None:
        match record:
            case records.JobSubmitted():
                self.toml = record.toml
                if record.digest:
                    self.versions[0] = Told(number=0, digest=record.digest, length=record.length)
            case records.ParticipationEnded() if _counts(record.participation):
                self._accepted(record)
            case records.VersionMade():
                self.versions[record.version] = self._made(record)
            case records.RoundClosed() if record.number in self.versions:
                self.versions[record.number] = replace(self.versions[record.number], closed=record.digest)
            case records.VersionsPruned():
                self.pruned.update(record.versions)

    def _accepted(self, record: records.ParticipationEnded) -> None:
        if self._attempt != (record.round, record.attempt):
            self._attempt, self._updates = (record.round, record.attempt), {}
        part = record.participation
        self._updates[part.client] = Accepted(weight=part.examples, digest=record.digest, length=record.length)

    def _made(self, made: records.VersionMade) -> Told:
        mine = self._attempt == (made.version, made.attempt)
        return Told(
            number=made.version,
            digest=made.digest,
            length=made.length,
            attempt=made.attempt,
            manifest=made.manifest,
            clients=tuple(made.clients),
            updates=dict(sorted(self._updates.items())) if mine else {},
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

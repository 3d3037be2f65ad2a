"""The versions of a job as the journal tells of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from fedelta.errors import NotFoundError
from fedelta_server.audit._report import Finding
from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.store.history import History, Row

_decoder = msgspec.json.Decoder(records.AnyRecord)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the journal tells of one version."""

    number: int
    digest: bytes
    length: int
    attempt: int = 0
    manifest: bytes = b""
    clients: tuple[str, ...] = ()
    updates: Mapping[str, records.ParticipationEnded] = field(default_factory=dict)
    """By client: the updates of the attempt that were accepted."""
    closed: records.RoundClosed | None = None
    """The end of its round. None: that is still open, or the version is the initial one."""


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
        rows = history.rows(job)
        if not rows:
            known = ", ".join(history.jobs()) or "none"
            raise NotFoundError(f"there is no job {job!r} in this state; there are: {known}")
        decoded = [(row, _decode(row, job)) for row in rows]
        told = [record for _, record in decoded if isinstance(record, records.Record)]
        return cls(
            job=job,
            toml=next((each.toml for each in told if isinstance(each, records.JobSubmitted)), ""),
            versions=_versions(told),
            pruned=frozenset(pruned_in(told)),
            findings=tuple(finding for row, found in decoded for finding in _faults(row, found)),
        )


def pruned_in(found: Iterable[records.Record]) -> set[int]:
    """The versions that records say are pruned."""
    return {number for each in found if isinstance(each, records.VersionsPruned) for number in each.versions}


def pruned_now(history: History, job: str) -> set[int]:
    """The versions of a job that are pruned by now: a coordinator may run beside the audit."""
    rows = history.rows(job, records.VersionsPruned.__name__)
    return pruned_in(each for row in rows if isinstance(each := _decode(row, job), records.Record))


def _decode(row: Row, job: str) -> records.Record | str:
    """The record, or what is wrong with it."""
    try:
        record: records.Record = _decoder.decode(row.body)
    except msgspec.MsgspecError as error:
        return f"cannot be read: {error}"
    if (type(record).__name__, record.job) != (row.kind, job):
        return f"is filed as {row.kind} of {job}, but is {type(record).__name__} of {record.job}"
    return record


def _faults(row: Row, found: records.Record | str) -> list[Finding]:
    link = f"journal record {row.sequence} ({row.kind})"
    faults = [] if isinstance(found, records.Record) else [Finding(link=link, what=found)]
    if not row.tied:
        what = "it was changed after it was written, or one before it was removed: its link does not fit"
        faults.append(Finding(link=link, what=what))
    return faults


def _versions(known: Iterable[records.Record]) -> dict[int, Told]:
    """The versions by number."""
    made: dict[int, Told] = {}
    updates: dict[tuple[int, int], dict[str, records.ParticipationEnded]] = {}
    for each in known:
        match each:
            case records.JobSubmitted() if each.digest:
                made[0] = Told(number=0, digest=each.digest, length=each.length)
            case records.ParticipationEnded() if _counts(each.participation):
                updates.setdefault((each.round, each.attempt), {})[each.participation.client] = each
            case records.VersionMade():
                made[each.version] = _told(each, updates.pop((each.version, each.attempt), {}))
            case records.RoundClosed() if each.number in made:
                made[each.number] = _closed(made[each.number], each)
    return dict(sorted(made.items()))


def _counts(part: records.Participation) -> bool:
    return part.phase is PhaseKind.TRAIN and part.outcome is Outcome.ACCEPTED


def _told(made: records.VersionMade, updates: Mapping[str, records.ParticipationEnded]) -> Told:
    return Told(
        number=made.version,
        digest=made.digest,
        length=made.length,
        attempt=made.attempt,
        manifest=made.manifest,
        clients=tuple(made.clients),
        updates=dict(sorted(updates.items())),
    )


def _closed(told: Told, closed: records.RoundClosed) -> Told:
    return replace(told, closed=closed)

"""What a job's records say, read from the coordinator's journal beside it."""

import base64
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True)
class Version:
    """A model version, and the clients whose updates are in it."""

    number: int
    attempt: int
    digest: bytes
    clients: tuple[str, ...]
    sources: tuple[tuple[int, int], ...] = ()
    """Asynchronous rounds: the round and the attempt of each client's assignment."""

    def assignments(self, job: str) -> tuple[str, ...]:
        """The ids of those whose updates are in it."""
        sources = self.sources or ((self.number, self.attempt),) * len(self.clients)
        found = zip(self.clients, sources, strict=True)
        return tuple(f"{job}.{round_}.{attempt}.train.{name}" for name, (round_, attempt) in found)


@dataclass(frozen=True)
class JobRecords:
    """The records of one job that matter here."""

    versions: tuple[Version, ...]
    accepted: tuple[str, ...]
    """The ids of the assignments whose updates were accepted, as often as it was recorded."""
    closed: tuple[int, ...]
    """The rounds that were closed."""
    folded: tuple[str, ...]
    """The ids of the assignments whose updates are in a version, as often as they are."""
    asked: Counter[tuple[int, str]] = field(default_factory=Counter)
    """How often each client was asked to train in each round."""


def read(path: Path, job: str) -> JobRecords:
    """The records of a job."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT body FROM journal WHERE job = ? ORDER BY sequence", (job,)).fetchall()
    found = [msgspec.json.decode(row[0]) for row in rows]
    versions = tuple(_version(each) for each in found if each["type"] == "VersionMade")
    return JobRecords(
        versions=versions,
        accepted=tuple(_assignment(each) for each in found if _accepts(each)),
        closed=tuple(each["number"] for each in found if each["type"] == "RoundClosed"),
        folded=tuple(each for version in versions for each in version.assignments(job)),
        asked=Counter((each["round"], name) for each in found if _asks(each) for name in each["clients"]),
    )


def _version(record: dict[str, Any]) -> Version:
    digest = base64.b64decode(record["digest"])
    sources = tuple((round_, attempt) for round_, attempt in record.get("sources", ()))
    return Version(record["version"], record.get("attempt", 0), digest, tuple(record.get("clients", ())), sources)


def _asks(record: dict[str, Any]) -> bool:
    return record["type"] in ("PhaseOpened", "PhaseExtended") and record["phase"] == "train"


def _accepts(record: dict[str, Any]) -> bool:
    if record["type"] != "ParticipationEnded":
        return False
    part = record["participation"]
    return bool(part["outcome"] == "accepted" and part["phase"] == "train")


def _assignment(record: dict[str, Any]) -> str:
    part = record["participation"]
    return f"{record['job']}.{record['round']}.{record['attempt']}.{part['phase']}.{part['client']}"

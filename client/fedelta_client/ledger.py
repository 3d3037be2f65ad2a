"""The site's own log of what left it and what it fetched: lines of JSON in the spool, only ever appended to.

Before anything leaves, a line about it is on the disk; another one follows when its fate is known. Where that is
missing nobody knows: the client was killed meanwhile. Started again it goes on with the same result, which is still the
same parcel: its fate follows then.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from fedelta._files import sync
from fedelta.errors import FedeltaError
from fedelta_client.policy import Usage
from fedelta_client.tally import Tally

Kind = Literal["update", "model", "evaluation", "failure", "progress", "registration"]
"""What leaves: an update, an initial model, the numbers of an evaluation, why work was not done, the learner's numbers
while it trains, and what the client says of itself."""

Fate = Literal["acknowledged", "refused", "unknown"]

_RESULTS = ("update", "model", "evaluation")
"""The kinds that another process goes on with where one was killed."""


class LedgerError(FedeltaError):
    """The ledger cannot be written, so nothing leaves the site any more."""

    code = "ledger"


class Parcel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that leaves the site."""

    kind: Kind
    bytes: int
    """What it takes to send it once."""
    job: str = ""
    round: int = 0
    digest: str = ""
    """Of a file: BLAKE3-256 in hexadecimal."""
    norm: float | None = None
    """Of an update: its Euclidean norm over all tensors."""
    examples: int = 0
    """From how many it was made."""
    metrics: Mapping[str, float] = {}
    facts: Mapping[str, float] = {}
    """What the job's plan wants to know of an update, beyond the learner's metrics."""
    seconds: float = 0.0
    """Spent in the learner."""
    message: str = ""
    labels: Mapping[str, str] = {}


class Sending(Parcel, frozen=True, kw_only=True, tag_field="line", tag="sending", omit_defaults=True):
    """A parcel is about to leave."""

    number: int
    """Counts parcels, from 1."""
    time: datetime
    coordinator: str
    """HOST:PORT."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="outcome", omit_defaults=True):
    """What became of a parcel. Of several about one parcel the last one counts."""

    number: int
    time: datetime
    fate: Fate
    bytes: int
    """What went out for it, repetitions included. Of what a killed process sent, only what must have gone out."""
    reason: str = ""


class Received(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="received", omit_defaults=True):
    """A model was fetched, or what a plan shares beside it (`shared`); or as much of it as came."""

    time: datetime
    coordinator: str
    job: str
    round: int = 0
    version: int = 0
    digest: str
    bytes: int
    shared: bool = False


Line = Sending | Outcome | Received

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


@dataclass
class _Open:
    """A result of which nobody knows whether it arrived."""

    parcel: Parcel
    sent: int = 0
    """Bytes that surely went out for it."""


class Ledger:
    """The ledger of a running client. A context manager; raises `LedgerError` wherever the disk refuses."""

    def __init__(self, path: Path, coordinator: str) -> None:
        self._path = path
        self._coordinator = coordinator
        self._tally = Tally()
        self._number = 0
        self._open: dict[int, _Open] = {}

    def __enter__(self) -> Self:
        try:
            self._recall()
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._end_torn_line()
        except OSError as error:
            raise self._refused(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @contextmanager
    def sending(self, parcel: Parcel, moved: Callable[[], int] | None = None) -> Iterator[bool]:
        """The block sends the parcel: an error of ours says that it is refused, any other that nobody knows.

        Yields whether some of it may have gone out before: a result whose fate is not known is gone on with.
        `moved` counts what goes out meanwhile; without it the parcel goes once.
        """
        begun = self._begun(parcel)
        number, before = begun or self.begin(parcel), moved() if moved else 0
        earlier = self._open[number].sent if begun else 0
        fate: Fate = "unknown"
        reason = ""
        try:
            yield begun is not None
            fate = "acknowledged"
        except FedeltaError as error:
            fate, reason = "refused", str(error)
            raise
        finally:
            sent = moved() - before if moved else parcel.bytes
            self.end(number, fate, max(parcel.bytes, earlier + sent) if begun else sent, reason)

    def begin(self, parcel: Parcel) -> int:
        """Notes what is about to leave. When this returns, that is on the disk. Returns its number."""
        self._number += 1
        line = Sending(
            number=self._number, time=_now(), coordinator=self._coordinator, **msgspec.structs.asdict(parcel)
        )
        self._append(line, durable=True)
        return self._number

    def end(self, number: int, fate: Fate, sent_bytes: int, reason: str = "") -> None:
        """Notes what became of it. Not synced: a fate that is lost is an unknown one."""
        self._append(Outcome(number=number, time=_now(), fate=fate, bytes=sent_bytes, reason=reason))

    def receive(self, **what: Any) -> None:
        """Notes a fetched model: the fields of `Received` but time and coordinator."""
        self._append(Received(time=_now(), coordinator=self._coordinator, **what))

    def usage(self, job: str, now: datetime) -> Usage:
        """What this site has done so far, for a job of this coordinator. `now` says which day it is."""
        return self._tally.usage(self._coordinator, job, now.date())

    def _begun(self, parcel: Parcel) -> int | None:
        """The number of this very parcel, where it may have left already."""
        return next((number for number, each in self._open.items() if each.parcel == parcel), None)

    def _recall(self) -> None:
        for line in Reader(self._path).lines():
            self._note(line)

    def _note(self, line: Line) -> None:
        match line:
            case Sending():
                self._number = max(self._number, line.number)
                self._tally.sending(line.number, line.time, line.bytes)
                if line.kind in _RESULTS and line.coordinator == self._coordinator:
                    self._open[line.number] = _Open(_parcel(line))
                if line.kind == "update":
                    self._tally.trained(line.coordinator, line.job, line.round)
            case Outcome():
                self._tally.sent(line.number, line.bytes, final=line.fate != "unknown")
                if line.fate != "unknown":
                    self._open.pop(line.number, None)
                elif line.number in self._open:
                    self._open[line.number].sent = line.bytes
            case Received():
                self._tally.received(line.time, line.bytes)

    def _append(self, line: Line, *, durable: bool = False) -> None:
        try:
            _write(self._fd, _encode(line) + b"\n")
            if durable:
                os.fdatasync(self._fd)
        except OSError as error:
            raise self._refused(error) from None
        self._note(line)

    def _end_torn_line(self) -> None:
        """The last line may be half there; what it was about did not leave. And the file is to have its name."""
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            _write(self._fd, b"\n")
        sync(self._path.parent)

    def _refused(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self._path}, which says what leaves this site, cannot be written: {error.strerror}. "
            "Nothing leaves without it, so this client ends"
        )


class Reader:
    """Reads a ledger, also one that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.unreadable = 0
        """How many lines were no lines of a ledger."""

    def lines(self) -> Iterator[Line]:
        """The whole lines since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                try:
                    yield _decode(raw)
                except msgspec.MsgspecError:
                    self.unreadable += 1


def _parcel(line: Sending) -> Parcel:
    return Parcel(**{name: getattr(line, name) for name in Parcel.__struct_fields__})


def _now() -> datetime:
    return datetime.now(UTC)


def _write(fd: int, line: bytes) -> None:
    while line:
        line = line[os.write(fd, line) :]

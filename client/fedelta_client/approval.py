"""Which jobs the operator at the site has approved. Files in the spool, one for each job that asked.

The running client writes what asks, commands in other terminals write what was decided. A decision holds what was
decided on: it is worth nothing for a job that is another one by then.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from blake3 import blake3

from fedelta._files import replaced
from fedelta.errors import ConfigError, StorageError

Decision = Literal["waiting", "approved", "denied"]

_SUFFIX = ".json"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks of this site, and what was decided."""

    coordinator: str
    """HOST:PORT."""
    job: str
    """Its id there."""
    job_name: str
    learner: str
    rounds: int
    """How many rounds it runs. It is asked for anew when they become more."""
    train: Mapping[str, Any]
    """The job's [train] table."""
    model_arguments: Mapping[str, Any]
    """The job's [model.arguments] table."""
    plan: Mapping[str, Any] = {}
    """What of the job's plan concerns the client, such as its [local] table. Empty: plain training."""
    decision: Decision = "waiting"
    time: datetime | None = None
    """Of the decision."""

    @property
    def digest(self) -> str:
        """Of what the learner would be made to do: BLAKE3-256 in hexadecimal."""
        # Without a plan as it was before there were plans: those approvals still hold.
        asked = [self.learner, self.train, self.model_arguments, *([self.plan] if self.plan else [])]
        return blake3(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def covers(self, asking: "Approval") -> bool:
        """Whether what was decided here holds for what is asked now."""
        return self.digest == asking.digest and self.rounds >= asking.rounds


_decode = msgspec.json.Decoder(Approval).decode


class Approvals:
    """The approvals kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def decision(self, asking: Approval) -> Decision:
        """What was decided about this. What is new here is written down: it waits. Raises `StorageError`."""
        known = self._read(self._path(asking))
        if known is None or not known.covers(asking):
            self.keep(asking)
            return "waiting"
        return known.decision

    def decide(self, asked: Approval, decision: Decision) -> None:
        """Writes a decision down. Raises `StorageError`."""
        self.keep(msgspec.structs.replace(asked, decision=decision, time=datetime.now(UTC)))

    def waits(self, asked: Approval) -> bool:
        """Whether exactly this is still to be decided."""
        return self._read(self._path(asked)) == asked

    def all(self) -> list[Approval]:
        """What has asked so far, by job."""
        return [found for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if (found := self._read(path))]

    def find(self, job: str, coordinator: str | None = None) -> Approval:
        """What the job asks. Raises `ConfigError` where it has not, or where jobs of several coordinators have."""
        found = [each for each in self.all() if each.job == job and coordinator in (None, each.coordinator)]
        if len(found) > 1:
            names = ", ".join(each.coordinator for each in found)
            raise ConfigError(f"several coordinators have a job {job!r}: {names}; say which with --server HOST:PORT")
        if not found:
            raise ConfigError(
                f"no job {job!r} has asked at this client; `fedelta client approvals` lists those that have"
            )
        return found[0]

    def keep(self, approval: Approval) -> None:
        """Writes it in place of what there is of that job. Raises `StorageError`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._folder} cannot be made: {error.strerror}") from None
        with replaced(self._path(approval), overwrite=True) as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(approval)))

    def _path(self, approval: Approval) -> Path:
        # Names come from the coordinator; quoted and with an ending they cannot lead elsewhere.
        return self._folder / (quote(f"{approval.job} {approval.coordinator}", safe="") + _SUFFIX)

    def _read(self, path: Path) -> Approval | None:
        """None also for a file that makes no sense: it approves nothing."""
        try:
            return _decode(path.read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def describe(asked: Approval) -> Iterator[str]:
    """What an operator should know before they decide, line by line.

    Text of the coordinator's is such that no control character reaches the terminal.
    """
    yield f"job {plain(asked.job)} ({plain(asked.job_name)}) of coordinator {asked.coordinator} asks to work here"
    yield f"  learner            {plain(asked.learner)}"
    yield f"  rounds             up to {asked.rounds}"
    yield f"  [train]            {json.dumps(asked.train, sort_keys=True)}"
    yield f"  [model.arguments]  {json.dumps(asked.model_arguments, sort_keys=True)}"
    if asked.plan:
        yield f"  plan               {json.dumps(asked.plan, sort_keys=True)}"
    yield "  leaves the site    in each round: the update (what training changed in the model, as long as the model),"
    yield "                     how many examples it was made from, the learner's metrics of training and evaluation;"
    yield "                     how far it is while it trains, and the message of an error if it fails"


def plain(text: str) -> str:
    """The text, in JSON where it would do something to a terminal."""
    return text if text.isprintable() else json.dumps(text)

"""The ledger for people: what left the site, what became of it, what was fetched, and sums."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import click
import msgspec

from fedelta._words import numbers, plural, size
from fedelta.cli._output import print_table
from fedelta_client.approval import plain
from fedelta_client.ledger import Fate, Line, Outcome, Reader, Received, Sending

COLUMNS = ("time", "job", "round", "what", "bytes", "digest", "norm", "examples", "says", "fate")


@dataclass
class Left:
    """Something that left the site, and what became of it."""

    sending: Sending
    outcome: Outcome | None = None

    @property
    def fate(self) -> Fate:
        """ "unknown" also where the client was killed before it knew."""
        return "unknown" if self.outcome is None else self.outcome.fate

    @property
    def bytes(self) -> int:
        """What went out for it; its length where that is not known."""
        return self.sending.bytes if self.outcome is None else self.outcome.bytes

    def as_plain(self) -> dict[str, Any]:
        """For programs."""
        reason = "" if self.outcome is None else self.outcome.reason
        more = {"fate": self.fate, "reason": reason, "bytes_sent": self.bytes}
        return {**msgspec.structs.asdict(self.sending), **more}


@dataclass
class History:
    """A whole ledger, or what there is in it of one job."""

    left: list[Left] = field(default_factory=list)
    fetched: list[Received] = field(default_factory=list)

    @classmethod
    def of(cls, reader: Reader, job: str | None) -> Self:
        """Reads it."""
        history = cls()
        by_number: dict[int, Left] = {}
        for line in reader.lines():
            history._add(line, by_number, job)
        return history

    def _add(self, line: Line, by_number: dict[int, Left], job: str | None) -> None:
        if isinstance(line, Outcome):
            if line.number in by_number:
                by_number[line.number].outcome = line
        elif job in (None, line.job):
            if isinstance(line, Received):
                self.fetched.append(line)
            else:
                by_number[line.number] = Left(line)
                self.left.append(by_number[line.number])

    def as_plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "left": [each.as_plain() for each in self.left],
            "fetched": [msgspec.structs.asdict(each) for each in self.fetched],
            "totals": {
                "left": Counter(each.sending.kind for each in self.left),
                "bytes_sent": sum(each.bytes for each in self.left),
                "fetched": len(self.fetched),
                "bytes_fetched": sum(each.bytes for each in self.fetched),
            },
        }

    def print(self, *, everything: bool) -> None:
        """A table, and sums below it. Without `everything` it leaves out the learner's numbers while it trains."""
        shown = [each for each in self.left if everything or each.sending.kind != "progress"]
        rows = [(each.sending.time, _left_row(each)) for each in shown]
        rows += [(each.time, _fetched_row(each)) for each in self.fetched]
        print_table(COLUMNS, (row for _, row in sorted(rows)), "nothing has left this site, and nothing was fetched")
        for line in self._totals():
            click.echo(line)

    def _totals(self) -> Iterator[str]:
        kinds = Counter(each.sending.kind for each in self.left)
        if kinds:
            named = ", ".join(plural(count, f"{kind}") for kind, count in kinds.items())
            yield f"left the site: {named}; {size(sum(each.bytes for each in self.left))}"
        if self.fetched:
            files = Counter(_what(each) for each in self.fetched)
            named = ", ".join(plural(count, what) for what, count in files.items())
            yield f"fetched: {named}; {size(sum(each.bytes for each in self.fetched))}"


def follow_lines(job: str | None, *, everything: bool, as_json: bool) -> Callable[[Line], None]:
    """What shows one line of the ledger after the other: of one job, or of all."""
    sent: dict[int, Sending] = {}

    def show(line: Line) -> None:
        if isinstance(line, Sending):
            sent[line.number] = line
        about = sent.get(line.number) if isinstance(line, Outcome) else line
        if about is None or job not in (None, about.job):
            return
        if as_json:
            click.echo(msgspec.json.encode(line).decode())
        elif everything or not isinstance(about, Sending) or about.kind != "progress":
            click.echo("  ".join(filter(None, _follow_row(line, about))))

    return show


def _follow_row(line: Line, about: Sending | Received) -> tuple[str, ...]:
    if isinstance(line, Outcome):
        assert isinstance(about, Sending)  # only those have one
        return (_clock(line.time), *_where(about), about.kind, line.fate, plain(line.reason))
    return _left_row(Left(line))[:-1] if isinstance(line, Sending) else _fetched_row(line)


def _left_row(left: Left) -> tuple[str, ...]:
    sending = left.sending
    reason = plain(left.outcome.reason) if left.outcome and left.outcome.reason else ""
    return (
        _clock(sending.time),
        *_where(sending),
        sending.kind,
        size(left.bytes),
        sending.digest[:12],
        "" if sending.norm is None else f"{sending.norm:.4g}",
        str(sending.examples or ""),
        "  ".join(
            filter(None, (numbers({**sending.metrics, **sending.facts}), plain(sending.message), _labels(sending)))
        ),
        f"{left.fate}: {reason}" if reason else left.fate,
    )


def _fetched_row(fetched: Received) -> tuple[str, ...]:
    what = f"fetched {_what(fetched)} {fetched.version}"
    return (_clock(fetched.time), *_where(fetched), what, size(fetched.bytes), fetched.digest[:12], "", "", "", "")


def _what(fetched: Received) -> str:
    return "state" if fetched.shared else "model"


def _where(line: Sending | Received) -> tuple[str, str]:
    return plain(line.job), str(line.round or "")


def _labels(sending: Sending) -> str:
    return " ".join(f"{key}={value}" if value else key for key, value in sending.labels.items())


def _clock(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"

"""What `fedelta simulate` shows while it runs: a line for what happened, and on a terminal where it is now."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from fedelta._printable import printable
from fedelta._words import averages, numbers, plural, span
from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.simulation._history import History

_QUIET = (Outcome.ACCEPTED, Outcome.RELEASED, Outcome.CANCELLED)


class Screen:
    """Takes in records. Use it in a `with` statement."""

    def __init__(self, *, plain: bool) -> None:
        self._now = "beginning"
        self._round = ""
        self._done = self._asked = 0
        self._live: Any = None
        live = not plain and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._context: AbstractContextManager[Any] = self._picture() if live else nullcontext()

    def tell(self, at: float, record: records.Record) -> None:
        """Shows a record."""
        if text := line(record):
            self._print(f"{at:9.2f}  {text}")
        match record:
            case records.PhaseOpened() if record.phase is not PhaseKind.EVALUATE:
                self._round, self._done, self._asked = f"round {record.round}", 0, len(record.clients)
            case records.ParticipationEnded() if record.participation.phase is not PhaseKind.EVALUATE:
                self._done += 1
        self._now = f"{self._round}: {self._done} of {plural(self._asked, 'client')}, at {at:.2f}"

    def __enter__(self) -> "Screen":
        self._live = self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def _picture(self) -> AbstractContextManager[Any]:
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False, markup=False)
        return Live(console=console, get_renderable=lambda: self._now, refresh_per_second=4, transient=True)

    def _print(self, text: str) -> None:
        if self._live is None:
            click.echo(text)
        else:
            self._live.console.print(text, soft_wrap=True)


def line(record: records.Record) -> str:
    """A record in one line; empty where nobody needs to know."""
    return printable(_line(record))


def _line(record: records.Record) -> str:
    match record:
        case records.RoundClosed():
            return f"round {record.number}: {_round(record)}"
        case records.EvaluationClosed():
            return f"version {record.version}: {_evaluated(record)}"
        case records.RoundFailed():
            return f"round {record.round}: attempt {record.attempt} failed: {record.reason}"
        case records.JobStateChanged():
            return f"{record.state}: {record.reason}" if record.reason else str(record.state)
        case records.ParticipationEnded() if record.participation.outcome not in _QUIET:
            part = record.participation
            return f"round {record.round}: {part.client} {part.outcome}: {part.reason}"
    return ""


def _round(record: records.RoundClosed) -> str:
    trained = [part for part in record.clients if part.phase is PhaseKind.TRAIN]
    counted = sum(part.outcome is Outcome.ACCEPTED for part in trained)
    parts = [f"{counted} of {plural(len(trained), 'client')}", numbers(record.train_metrics)]
    return "  ".join(part for part in parts if part)


def _evaluated(record: records.EvaluationClosed) -> str:
    return averages(record.metrics, record.central) or "nobody evaluated it"


def ending(history: History, took: float) -> str:
    """How a simulation ended; the newest version's digest is the last word."""
    why = f" ({history.reason})" if history.reason else ""
    last = next((averages(each.metrics, each.central) for each in reversed(history.evaluations)), "")
    parts = [
        f"{history.state} after {plural(len(history.rounds), 'round')}{why}",
        last,
        f"{span(history.seconds)} on the simulation's clock" if history.seconds else "",
        f"took {span(took)}",
    ]
    return f"{', '.join(part for part in parts if part)}: {history.digest or 'no model'}"

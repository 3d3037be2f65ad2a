"""Following a job: a live picture on a terminal, one line for each event elsewhere."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn, Protocol, Self

import click
from rich.console import Console, RenderableType
from rich.live import Live

from fedelta.admin import AdminClient, Event, JobState, PhaseOpened, StateChanged
from fedelta.cli import _progress as progress
from fedelta.cli._describe import describe
from fedelta.cli._exit import ExitCode
from fedelta.cli._live import picture
from fedelta.cli._options import connect
from fedelta.errors import FedeltaError, UnavailableError

POLL_SECONDS = 1.0
"""How often the coordinator is asked how far its clients are."""

_ANSWER_SECONDS = 5.0


def follow(admin: AdminClient, job_id: str, *, until_paused: bool, plain: bool = False) -> JobState:
    """Shows what happens to a job until it has ended (or pauses); returns the state it is in then.

    On a terminal it is a live picture, unless `plain`.
    """
    state = JobState.QUEUED
    with _screen(admin, job_id, plain) as screen:
        for event in admin.watch(job_id, on_outage=screen.away):
            screen.tell(event)
            if isinstance(event.what, StateChanged):
                state = event.what.state
                if state is JobState.PAUSED and until_paused:
                    break
    return state


def line(event: Event) -> str:
    """An event in one line, with its time; empty where nobody needs to know."""
    words = describe(event.what)
    return f"{event.time.astimezone():%H:%M:%S}  {words}" if words else ""


class _Screen(Protocol):
    """Where events are shown."""

    def tell(self, event: Event) -> None: ...

    def away(self, error: UnavailableError) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def _screen(admin: AdminClient, job_id: str, plain: bool) -> _Screen:
    if plain or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return Lines(admin.server)
    return Picture(admin.server, job_id, Console(highlight=False, markup=False))


class Lines:
    """One line for each event."""

    def __init__(self, server: str) -> None:
        self._server = server

    def tell(self, event: Event) -> None:
        """Prints it."""
        if text := line(event):
            click.echo(text)

    def away(self, error: UnavailableError) -> None:
        """Says that nothing will come for a while; on stderr, since it is no event."""
        del error
        click.echo(f"no answer from {self._server}; waiting until it is back", err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Picture:
    """What happened above, and below it, redrawn, what happens now. The picture is gone at the end."""

    def __init__(self, server: str, job_id: str, console: Console) -> None:
        self._console = console
        self._progress = progress.Progress(job=job_id)
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        # A connection of its own: closing it ends a question that is not answered.
        self._questions = connect(server, timeout=_ANSWER_SECONDS)
        self._over = threading.Event()
        self._asker = threading.Thread(target=self._ask_on, name="fedelta-progress", daemon=True)

    def tell(self, event: Event) -> None:
        """Takes it into the picture, and puts it above where it is to stay."""
        self._change(lambda known: progress.after(known, event))
        text = line(event)
        if text and not isinstance(event.what, PhaseOpened):
            self._console.print(text, soft_wrap=True)

    def away(self, error: UnavailableError) -> None:
        """Says so until the coordinator answers again."""
        del error
        self._change(lambda known: progress.away(known, _now()))

    def __enter__(self) -> Self:
        # Ended by SIGTERM, the terminal shall be left as by Ctrl-C.
        self._before = signal.signal(signal.SIGTERM, _terminated)
        self._live.start()
        self._asker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._questions.close()
        self._asker.join()
        self._live.stop()
        signal.signal(signal.SIGTERM, self._before)

    def _change(self, change: Callable[[progress.Progress], progress.Progress]) -> None:
        with self._lock:
            self._progress = change(self._progress)

    def _draw(self) -> RenderableType:
        with self._lock:
            known = self._progress
        width, height = self._console.size
        return picture(known, _now(), width=width, height=height)

    def _ask_on(self) -> None:
        while not self._over.is_set():
            try:
                self._ask()
            except FedeltaError:
                # The events' own connection notices as well, and it is the one that gives up some day.
                self._change(lambda known: progress.away(known, _now()))
            self._over.wait(POLL_SECONDS)

    def _ask(self) -> None:
        clients = self._questions.clients()
        self._change(lambda known: progress.with_clients(known, clients))
        if self._progress.open is None or not self._progress.rounds_max:
            # All jobs without their rounds are less than one job with them.
            job = next((each for each in self._questions.list() if each.id == self._progress.job), None)
            if job is not None:
                self._change(lambda known: progress.with_job(known, job))


def _now() -> datetime:
    return datetime.now(UTC)


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(ExitCode.TERMINATED)

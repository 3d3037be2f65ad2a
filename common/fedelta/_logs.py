"""Logs: one line for people, or one JSON object, for each thing that happens; and what each line is about.

Library code logs with `logging` and knows nothing of this. A process calls `configure` once, before it imports
grpc, and whoever begins to work on something says so with `about`: every line that is logged meanwhile then names
that job, round and client.
"""

import contextvars
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, TextIO

from fedelta._printable import printable

LogFormat = Literal["text", "json"]

_OURS = ("fedelta", "fedelta_client", "fedelta_server")
_ORDER = ("job", "round", "client")

_NOTHING: Mapping[str, str | int] = MappingProxyType({})
_subject: contextvars.ContextVar[Mapping[str, str | int]] = contextvars.ContextVar("_subject", default=_NOTHING)


@contextmanager
def about(*, job: str = "", round: int | None = None, client: str = "") -> Iterator[None]:
    """What is logged in the `with` block, and in the tasks begun there, concerns this and nothing else."""
    named: dict[str, str | int | None] = {"job": job, "round": round, "client": client}
    token = _subject.set({key: value for key, value in named.items() if value is not None and value != ""})
    try:
        yield
    finally:
        _subject.reset(token)


def configure(*, format: LogFormat = "text", verbose: bool = False, process: str = "") -> None:
    """Sends the log of this process to stderr.

    Call it before grpc is imported: its core reads its settings then, and is silent unless `verbose`.

    Args:
        format: "text" for people, "json" for one object a line.
        verbose: also what only somebody needs who looks for a fault.
        process: the client's name, where this process is a client: it stands on every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if format == "json" else TextLines(process, short=_is_terminal(sys.stderr)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        quiet_grpc()


def quiet_grpc() -> None:
    """Keeps gRPC's own log off the terminal: what it tells is raised here as well, and then told in our words.

    Call it before grpc is imported.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("grpc").setLevel(logging.CRITICAL)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


class TextLines(logging.Formatter):
    """Lines for people: `12:00:03 site-1 digits-1 round 3: trained on 100 examples`.

    With the date where they go to a file, and with the level where it is another than the usual one.
    """

    def __init__(self, process: str = "", *, short: bool = False) -> None:
        self._process = process
        super().__init__("%(asctime)s %(words)s", "%H:%M:%S" if short else "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception's traceback follows it."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        process = f"{self._process} " if self._process else ""
        # Much of what is logged came from another machine.
        record.words = f"{process}{level}{_about()}{printable(record.getMessage())}"
        return super().format(record)


def _about() -> str:
    found = _subject.get()
    words = [str(found[key]) if key != "round" else _round(found[key]) for key in _ORDER if key in found]
    return f"{' '.join(words)}: " if words else ""


def _round(number: str | int) -> str:
    return f"round {number}" if number else "initial model"


class JsonLines(logging.Formatter):
    """Lines for programs: time (UTC), level, logger, message; job, round and client where it is about those."""

    def __init__(self, process: str = "") -> None:
        self._always = {"client": process} if process else {}
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line: one JSON object."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **_subject.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

"""Asking the operator who sits at the client's own terminal."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from fedelta_client.approval import Approval, Approvals, Decision, describe

_ANSWERS: dict[str, Decision] = {"y": "approved", "yes": "approved", "n": "denied", "no": "denied"}


class Question:
    """Asks one thing at a time, in the order in which they came up; the event loop goes on meanwhile."""

    def __init__(self, approvals: Approvals, on_answer: Callable[[], None]) -> None:
        self._approvals = approvals
        self._on_answer = on_answer
        self._open: deque[Approval] = deque()

    def ask(self, asked: Approval) -> None:
        """Asks, unless that is being asked already."""
        if asked not in self._open:
            self._open.append(asked)
            if len(self._open) == 1:
                self._say()

    def refresh(self) -> None:
        """Drops what was decided elsewhere meanwhile."""
        shown = self._open[0] if self._open else None
        self._open = deque(each for each in self._open if self._approvals.waits(each))
        if self._open and self._open[0] != shown:
            self._say()

    def answer(self, words: str) -> None:
        """The operator typed a line."""
        self.refresh()
        decision = _ANSWERS.get(words.strip().lower())
        if not self._open:
            return
        if decision is None:
            click.echo("please answer yes or no: ", nl=False)
            return
        self._approvals.decide(self._open.popleft(), decision)
        self._on_answer()
        if self._open:
            self._say()

    def _say(self) -> None:
        click.echo("\n".join(describe(self._open[0])))
        click.echo("approve it? [yes/no] ", nl=False)


def at_terminal() -> bool:
    """Whether somebody can answer here: stdin is a terminal, and this process is not in its background."""
    if not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # it is not the terminal that controls this process, so nothing stops a read
        return True


def _line() -> str:
    """What was typed; empty at the end, and where the terminal is gone."""
    try:
        return sys.stdin.readline()
    except OSError:
        return ""


@contextmanager
def answered(question: Question) -> Iterator[None]:
    """While the block runs, lines that are typed at the terminal answer the question."""
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()

    def hear() -> None:
        line = _line()
        if line:
            question.answer(line)
        else:
            loop.remove_reader(terminal)

    loop.add_reader(terminal, hear)
    try:
        yield
    finally:
        loop.remove_reader(terminal)

"""A job that is followed on a terminal: a pseudo terminal, with a process behind it."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fedelta.v1 import admin_pb2 as pb
from tests.cli.fake import FakeCoordinator, evaluation_event, job, round_event, state_event

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
"""What hides a terminal's cursor and shows it again."""

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


class Held(FakeCoordinator):
    """Its watches go on until `let_go` is set: the job is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.ending: list[pb.JobEvent] = []

    def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> Iterator[pb.WatchJobResponse]:
        yield from super().WatchJob(request, context)
        while context.is_active() and not self.let_go.wait(0.05):
            pass
        yield from (pb.WatchJobResponse(event=event) for event in self.ending)

    def stop(self) -> None:
        super().stop()
        # Not before: a watch that is let go tells the ending.
        self.let_go.set()


class Terminal:
    """A process on a terminal, and what it has written there."""

    def __init__(self, process: "subprocess.Popen[bytes]", fd: int) -> None:
        self.process = process
        self.text = ""
        self._fd = fd

    def reads(self, pattern: str) -> None:
        """Reads on until the pattern is there. The test's time limit is the only one."""
        while not re.search(pattern, self.text, re.DOTALL):
            assert self._read(), f"{pattern!r} is not in {self.text!r}"

    def ends(self) -> int:
        """Reads to the end; returns the exit code."""
        while self._read():
            pass
        return self.process.wait(30)

    def _read(self) -> bool:
        try:
            found = os.read(self._fd, 4096)
        except OSError:  # Linux: the other end is closed
            return False
        self.text += found.decode(errors="replace")
        return bool(found)


@contextmanager
def terminal(coordinator: FakeCoordinator, *words: str, **environment: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    base = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fedelta", "job", *words, "--server", coordinator.address],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=base | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def held() -> Iterator[Held]:
    """Round 1 is closed, round 2 under way."""
    with Held() as fake:
        fake.jobs["digits-1"] = job()
        opened = pb.PhaseOpened(round=2, attempt=1, phase=pb.PHASE_TRAIN, clients=["site-1", "site-2"])
        fake.events = [
            state_event(1, pb.JOB_STATE_RUNNING),
            round_event(2, 1),
            evaluation_event(3, 1),
            pb.JobEvent(sequence=4, phase_opened=opened),
        ]
        busy = pb.Client(
            name="site-1",
            state=pb.CLIENT_STATE_BUSY,
            assignment_ids=["digits-1.2.1.train.site-1"],
            progress=0.25,
        )
        fake.clients = [busy]
        fake.ending = [state_event(9, pb.JOB_STATE_FINISHED)]
        yield fake


def test_a_picture_follows_the_job_and_is_gone_at_its_end(held: Held) -> None:
    with terminal(held, "watch", "digits-1") as it:
        it.reads(r"round 2 of 2.*site-1.*25%.*site-2")
        assert COLOUR.search(it.text)
        held.let_go.set()
        assert it.ends() == 0
        assert re.search(r"round 1: 1 of 2 clients.*\d\d:\d\d:\d\d  finished", it.text, re.DOTALL)
        assert it.text.rindex(SHOW) > it.text.rindex(HIDE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(held: Held, number: signal.Signals, code: int) -> None:
    with terminal(held, "watch", "digits-1") as it:
        it.reads(r"round 2 of 2.*site-1")
        it.process.send_signal(number)
        assert it.ends() == code
        assert it.text.rindex(SHOW) > it.text.rindex(HIDE)
        assert "Traceback" not in it.text


def test_a_coordinator_that_goes_away_is_waited_for(held: Held) -> None:
    with terminal(held, "watch", "digits-1") as it:
        it.reads(r"round 2 of 2.*site-1")
        held.stop()
        it.reads("the coordinator has not answered for")
        held.start()
        assert it.ends() == 0


def test_no_color_is_respected(held: Held) -> None:
    with terminal(held, "watch", "digits-1", NO_COLOR="1") as it:
        it.reads(r"round 2 of 2.*site-1")
        held.let_go.set()
        assert it.ends() == 0
        assert COLOUR.search(it.text) is None


@pytest.mark.parametrize(("words", "environment"), [(["--plain"], {}), ([], {"TERM": "dumb"})])
def test_plain_lines_where_a_picture_is_not_wanted(held: Held, words: list[str], environment: dict[str, str]) -> None:
    held.let_go.set()
    with terminal(held, "watch", "digits-1", *words, **environment) as it:
        assert it.ends() == 0
        lines = it.text.replace("\r", "").splitlines()
        assert [line.split(maxsplit=1)[1] for line in lines] == [
            "running",
            "round 1: 1 of 2 clients  loss 0.5  4 kB up  8 kB down  0.25 s",
            "version 1: 1 of 2 clients  accuracy 0.75  recall/* 0.25 to 1  central accuracy 0.5  1.50 s",
            "round 2: training on 2 clients",
            "finished",
        ]

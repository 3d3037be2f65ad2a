"""The picture of a job that is followed, as text of a fixed width."""

from dataclasses import replace
from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from fedelta.admin import ClientState, JobState, Outcome, Phase
from fedelta.cli._live import picture
from fedelta.cli._progress import Progress, away, with_clients
from tests.cli.following import at, client, closed, ended, evaluated, opened, state, told

SITES = ("site-1", "site-2", "site-3", "site-4", "site-5", "site-6")
REASON = "RuntimeError: CUDA out of memory.\nTried to allocate 20.00 MiB"


def drawn(known: Progress, seconds: float = 7, *, width: int = 80, height: int = 24, color: bool = False) -> list[str]:
    """The picture's lines, without the spaces at their ends."""
    system: Literal["standard"] | None = "standard" if color else None
    console = Console(
        width=width, height=height, force_terminal=True, color_system=system, record=True, file=StringIO()
    )
    console.print(picture(known, at(seconds), width=width, height=height))
    return [line.rstrip() for line in console.export_text(styles=color).splitlines()]


@pytest.fixture
def training() -> Progress:
    """Round 4 of 20, second attempt: every client in another state."""
    rounds = [
        (0, state(JobState.RUNNING)),
        (0, opened(1, SITES)),
        *((2 * n, closed(n)) for n in (1, 2, 3)),
        (6, opened(3, ("site-3", "site-9"), phase=Phase.EVALUATE)),
        (6, evaluated(2, accuracy=0.9, loss=0.2, central={"accuracy": 0.8})),
        (6, opened(4, SITES, attempt=2)),
        (6.5, ended(4, "site-1")),
        (6.5, ended(4, "site-3", Outcome.FAILED, REASON)),
    ]
    clients = [
        client("site-2", "digits-1.4.2.train.site-2", progress=0.5),
        client("site-6", "digits-1.3.1.evaluate.site-6", "digits-1.4.2.train.site-6", progress=0.5),
        client("site-4", "other-1.1.1.train.site-4", "digits-1.4.2.train.site-4", progress=0.5),
        replace(client("site-5", "digits-1.4.2.train.site-5"), state=ClientState.GONE),
        client("site-9", digits_1="at night only"),
    ]
    return with_clients(told(*rounds), clients)


def test_a_round_under_way(training: Progress) -> None:
    assert drawn(training) == [
        "digits-1  round 4 of 20  ━━━                     2.00 s a round, about 33 s left",
        "training: 2 of 6 clients done, 1 s, attempt 2",
        "  site-2  ━━━━━━━━━━━━              50%",
        "  site-4                            works on another job",
        "  site-5                            not heard of",
        "  site-6                            evaluates version 3",
        "  site-3                            failed: RuntimeError: CUDA out of memory. T…",
        "  site-1  ━━━━━━━━━━━━━━━━━━━━━━━━  done, 0.80 s",
        "evaluating version 3: 0 of 2 clients done, 1 s",
        "declined by site-9 (at night only)",
        "version 2: accuracy 0.9  loss 0.2  central accuracy 0.8",
        "3 kB up  9.5 kB down",
    ]


def test_on_a_narrow_terminal_nothing_wraps(training: Progress) -> None:
    for width in (20, 30, 40, 60):
        lines = drawn(training, width=width)
        assert len(lines) == 12
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("digits-1  round 4")
        assert lines[6].startswith("  site-3")


def test_of_many_clients_the_first_that_are_waited_for_are_shown() -> None:
    names = tuple(f"site-{number:03}" for number in range(100))
    known = told((0, state(JobState.RUNNING)), (0, opened(1, names)), (1, ended(1, "site-000")))
    known = with_clients(known, [client(name, f"digits-1.1.1.train.{name}") for name in names[:60]])
    lines = drawn(known, height=17)
    assert [line.split()[0] for line in lines[2:8]] == [f"site-{number:03}" for number in range(1, 7)]
    assert lines[8] == "  and 94 more: 53 at work, 40 waiting, 1 done"
    assert len(drawn(known, height=100)) < 20


def test_the_picture_fits_the_terminal(training: Progress) -> None:
    known = away(replace(training, state=JobState.PAUSED, reason="maintenance"), at(5))
    for height in (12, 13, 24):
        assert len(drawn(known, height=height)) < height


def test_a_queued_job_says_what_it_waits_for() -> None:
    known = replace(told((0, state(JobState.QUEUED))), waiting_for="4 clients; 1 ready")
    assert drawn(known) == ["digits-1  queued  round 0 of 20", "waiting for 4 clients; 1 ready"]


def test_when_all_updates_are_there_they_are_averaged() -> None:
    known = told((0, state(JobState.RUNNING)), (0, opened(1, ("a",))), (1, ended(1, "a")))
    assert drawn(known, 3)[1] == "averaging, 3 s"
    known = told((3, closed(1)), (3, opened(1, ("a",), phase=Phase.EVALUATE)), progress=known)
    assert drawn(known, 70)[1:3] == ["evaluating version 1: 0 of 1 client done, 1m 07s", "  a"]


def test_of_many_evaluations_the_newest_is_shown() -> None:
    known = told((0, state(JobState.RUNNING)), *((n, opened(n, SITES, phase=Phase.EVALUATE)) for n in range(1, 6)))
    known = told((5, opened(6, ("a",))), progress=known)
    assert drawn(known)[3:] == ["evaluating version 5: 0 of 6 clients done, 2 s", "and 4 more evaluations"]


def test_a_pause_and_a_coordinator_that_is_away_are_said(training: Progress) -> None:
    known = away(replace(training, state=JobState.PAUSED, reason="maintenance"), at(5))
    lines = drawn(known)
    assert lines[0].startswith("digits-1  paused  round 4 of 20")
    assert "left" not in lines[0]
    assert lines[1] == "maintenance"
    assert lines[-1] == "the coordinator has not answered for 2 s; waiting until it does"


def test_colours_tell_apart_who_failed(training: Progress) -> None:
    (failed,) = [line for line in drawn(training, color=True) if "site-3" in line]
    assert "\x1b[31mfailed" in failed

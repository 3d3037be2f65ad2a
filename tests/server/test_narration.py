"""What the coordinator's log says of what was committed."""

import json
import logging

import pytest

from fedelta._logs import JsonLines
from fedelta_server import narration
from fedelta_server.engine import records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


def part(outcome: Outcome, reason: str = "", client: str = "a") -> records.Participation:
    done = outcome is Outcome.ACCEPTED
    return records.Participation(
        client=client,
        phase=PhaseKind.TRAIN,
        outcome=outcome,
        reason=reason,
        examples=10 if done else 0,
        seconds=1.5 if done else 0.0,
    )


def ended(outcome: Outcome, reason: str = "") -> records.ParticipationEnded:
    return records.ParticipationEnded(job="j-1", round=3, attempt=1, participation=part(outcome, reason))


def closed(metrics: dict[str, float], train_metrics: dict[str, float]) -> records.RoundClosed:
    return records.RoundClosed(
        job="j-1",
        number=3,
        attempts=1,
        seconds=0.5,
        bytes_up=1000,
        bytes_down=2_000_000,
        clients=[part(Outcome.ACCEPTED), part(Outcome.LOST, client="b")],
        metrics=metrics,
        train_metrics=train_metrics,
        digest=b"",
    )


CASES = [
    (records.JobSubmitted(job="j-1", toml="", submitted_unix=0), "info", {}, "submitted"),
    (
        records.JobSubmitted(job="j-1", toml="", submitted_unix=0, origin="i-1@4"),
        "info",
        {},
        "submitted, starts from i-1@4",
    ),
    (records.JobStateChanged(job="j-1", state=JobState.PAUSED, reason="later"), "info", {}, "paused: later"),
    (records.JobStateChanged(job="j-1", state=JobState.FAILED, reason="why"), "error", {}, "failed: why"),
    (records.JobExtended(job="j-1", rounds_max=9), "info", {}, "9 rounds in all from now on"),
    (
        records.PhaseOpened(job="j-1", round=3, attempt=2, phase=PhaseKind.TRAIN, clients=["a", "b"]),
        "debug",
        {"round": 3},
        "train opened for 2 clients, attempt 2: a, b",
    ),
    (
        records.PhaseExtended(job="j-1", round=3, attempt=1, phase=PhaseKind.TRAIN, clients=["c", "d"], turns=4),
        "debug",
        {"round": 3},
        "train in place of those that dropped out: c, d",
    ),
    (ended(Outcome.RELEASED, "enough"), "debug", {"round": 3, "client": "a"}, "train released: enough"),
    (ended(Outcome.ACCEPTED), "debug", {"round": 3, "client": "a"}, "train accepted: 10 examples in 1.50 s"),
    (ended(Outcome.CANCELLED, "stopped"), "debug", {"round": 3, "client": "a"}, "train cancelled: stopped"),
    (ended(Outcome.FAILED, "no data"), "info", {"round": 3, "client": "a"}, "train failed: no data"),
    (ended(Outcome.DECLINED), "info", {"round": 3, "client": "a"}, "train declined"),
    (
        records.VersionMade(job="j-1", version=0, digest=b"\xab" * 32, length=4000),
        "info",
        {"round": 0},
        "version 0 made, abababababab, 4 kB",
    ),
    (
        records.VersionMade(job="j-1", version=3, digest=b"\xab" * 32, length=4000),
        "debug",
        {"round": 3},
        "version 3 made, abababababab, 4 kB",
    ),
    (records.VersionsPruned(job="j-1", versions=[1, 2]), "debug", {}, "2 versions pruned: 1, 2"),
    (
        closed({"accuracy": 0.5}, {"loss": 1.0}),
        "info",
        {"round": 3},
        "closed: 1 of 2 clients, accuracy 0.5, 1 kB up, 2 MB down, 0.50 s",
    ),
    (closed({}, {"loss": 1.0}), "info", {"round": 3}, "closed: 1 of 2 clients, loss 1, 1 kB up, 2 MB down, 0.50 s"),
    (
        records.EvaluationClosed(
            job="j-1",
            version=2,
            attempt=1,
            seconds=1.5,
            clients=[ended(Outcome.ACCEPTED).participation, ended(Outcome.LATE).participation],
            metrics={"accuracy": 0.5},
            central={"accuracy": 0.75},
        ),
        "info",
        {"round": 2},
        "version 2 evaluated: 1 of 2 clients, accuracy 0.5, central accuracy 0.75, 1.50 s",
    ),
    (
        records.RoundFailed(job="j-1", round=3, attempt=2, reason="1 update came in"),
        "warning",
        {"round": 3},
        "attempt 2 failed: 1 update came in",
    ),
]


@pytest.mark.parametrize(("record", "level", "ids", "words"), CASES)
def test_a_record_is_a_line_with_its_ids(
    record: records.Record,
    level: str,
    ids: dict[str, object],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[dict[str, object]] = []
    handler = logging.Handler()
    # Formatted where it is logged: what a line is about is known there.
    monkeypatch.setattr(handler, "emit", lambda entry: lines.append(json.loads(JsonLines().format(entry))))
    logger = logging.getLogger("fedelta_server.jobs")
    monkeypatch.setattr(logger, "handlers", [handler])
    caplog.set_level(logging.DEBUG, logger.name)
    narration.tell(record)
    (line,) = lines
    assert (line.pop("level"), line.pop("message")) == (level, words)
    assert {key: line[key] for key in ("job", "round", "client") if key in line} == {"job": "j-1", **ids}


def test_every_kind_of_record_has_words() -> None:
    assert {type(record) for record, *_ in CASES} == set(records.AnyRecord.__args__)

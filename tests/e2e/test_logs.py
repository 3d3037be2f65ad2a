"""What real processes log, on both sides."""

import json
import signal
from typing import Any

from fedelta.admin import JobState
from fedelta.demo.processes import Federation, Process
from tests.e2e.running import job, run, start_client

AB = {"a": (10, 1.0), "b": (30, -2.0)}


def lines(process: Process) -> list[dict[str, Any]]:
    """Its log lines. With -v there may be others among them: those of gRPC's core."""
    return [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]


def about(found: list[dict[str, Any]], **ids: object) -> list[str]:
    """The messages of the lines that are about exactly this."""
    return [line["message"] for line in found if {key: line.get(key) for key in ("job", "round", "client")} == ids]


def test_every_line_about_an_assignment_names_it_on_both_sides(running: Federation) -> None:
    coordinator = running.start_coordinator("--log-format", "json", "-v")
    a = start_client(running, "a", "learners:Steps", "--log-format", "json", "--verbose")
    b = start_client(running, "b", "learners:Steps")
    for client in (a, b):
        client.wait_for("connected")
    found = run(running, job(sites=AB, acts={"b/2": "stumble"}, max=2))
    assert (found.id, found.state) == ("steps-1", JobState.FINISHED)
    b.send_signal(signal.SIGKILL)
    coordinator.wait_for("is gone: its connection broke")
    for process in (a, coordinator):
        assert process.stop() == 0
    told = lines(coordinator)
    assert about(told, job=None, round=None, client="a") == ["joined, offers learners:Steps", "left"]
    assert about(told, job="steps-1", round=None, client=None) == ["submitted", "running", "finished"]
    (begun, ended, accepted) = [
        line for line in about(told, job="steps-1", round=2, client="a") if "model" not in line
    ][:3]
    assert begun.startswith("sends ")
    assert ended.startswith("sent them in ")
    assert accepted.startswith("train accepted: 10 examples in ")
    (failed,) = [line for line in told if line["message"].startswith("train failed: ")]
    assert (failed["level"], failed["round"], failed["client"]) == ("info", 2, "b")
    closed = [line for line in told if line["message"].startswith("closed: ")]
    assert [(line["level"], line["job"], line["round"]) for line in closed] == [
        ("info", "steps-1", 1),
        ("info", "steps-1", 2),
    ]
    of_a = lines(a)
    assert {line["client"] for line in of_a} == {"a"}
    trained = [line for line in of_a if line["message"].startswith("trained on 10 examples")]
    assert [(line["job"], line["round"]) for line in trained] == [("steps-1", 1), ("steps-1", 2)]
    assert any(line.startswith("sending the update took ") for line in about(of_a, job="steps-1", round=2, client="a"))
    # b is at the usual level: what it did, and nothing of how.
    assert " b steps-1 round 1: trained on 30 examples" in b.output()
    assert " b error: steps-1 round 2: failed: " in b.output()
    assert "debug" not in b.output()

"""Clients that fail, each in its own way: rounds go on without them, and the job says who and why."""

import signal
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobState, Outcome
from fedelta.cli._exit import ExitCode
from fedelta.demo.processes import Federation
from tests.e2e.running import STEPS, fedelta, finish, job, run, start, start_client, trained

ACCEPTED = (Outcome.ACCEPTED, "")


def test_rounds_go_on_without_clients_that_fail(running: Federation, tmp_path: Path) -> None:
    acts = {"diverging": "diverge", "dying": "die", "hanging": "hang", "leaving": "leave", "stumbling": "stumble"}
    sites = dict.fromkeys([*acts, "sound", "wider"], (10, 1.0))
    model = tmp_path / "start.safetensors"
    assert fedelta("model", "init", "--learner", STEPS, "--out", model).returncode == 0
    running.start_coordinator()
    wider = start_client(running, "wider", "learners:Wider")
    start(running, [name for name in sites if name != "wider"])
    wider.wait_for("connected")
    text = job(
        sites=sites,
        acts={f"{name}/1": act for name, act in acts.items()},
        init=str(model),
        max=2,
        deadline="6s",
    )
    info = run(running, text)
    assert info.state is JobState.FINISHED, info.reason
    first, second = (trained(closed.clients) for closed in info.rounds)
    mismatch = second.pop("wider")
    assert second == dict.fromkeys([*acts, "sound"], ACCEPTED)
    assert first.pop("wider") == mismatch
    assert mismatch[0] is Outcome.FAILED
    for part in ("'weight'", "40, 25", "40, 26"):
        assert part in mismatch[1]
    outcome, reason = first.pop("diverging")
    assert outcome is Outcome.FAILED
    assert "'bias'" in reason
    assert "NaN" in reason
    assert first == {
        "dying": (Outcome.FAILED, "the trainer was killed by signal 9 (out of memory?)"),
        "hanging": (Outcome.LATE, "the deadline passed"),
        "leaving": (Outcome.FAILED, "the trainer exited with status 3"),
        "sound": ACCEPTED,
        "stumbling": (Outcome.FAILED, "ValueError: the scanner is off"),
    }
    with AdminClient(running.server) as admin:
        admin.download_model(info.id, tmp_path / "model.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in load_file(tmp_path / "model.safetensors").values())


def test_a_killed_client_is_done_without_and_may_come_back(running: Federation) -> None:
    start(running)
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(job(acts={"b/1": "hold"}, max=2, lease="1s", min_clients=2, clients=3))
        killed = running.clients["b"]
        killed.wait_for("b holds in round 1")
        trainer = psutil.Process(killed.pid).children()
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        info = finish(admin, job_id)
        assert psutil.wait_procs(trainer, timeout=10)[1] == []
        assert info.state is JobState.FINISHED, info.reason
        assert [trained(closed.clients) for closed in info.rounds] == [
            {"a": ACCEPTED, "b": (Outcome.LOST, "the client fell silent"), "c": ACCEPTED},
            {"a": ACCEPTED, "c": ACCEPTED},
        ]
        start_client(running, "b").wait_for("connected")
        again = finish(admin, admin.submit_text(job(max=1)))
        assert trained(again.rounds[0].clients) == dict.fromkeys("abc", ACCEPTED)


def test_a_second_process_under_a_name_is_refused(running: Federation, tmp_path: Path) -> None:
    start(running, ["a"])
    first = running.clients["a"]
    second = start_client(running, "a", STEPS, "--spool", str(tmp_path / "another"))
    assert run(running, job(sites={"a": (10, 1.0)})).state is JobState.FINISHED
    assert second.wait(30) == ExitCode.REFUSED
    assert "another live process is registered as 'a'" in second.output()
    assert "--name" in second.output()
    assert first.returncode is None
    assert run(running, job(sites={"a": (10, 1.0)})).state is JobState.FINISHED

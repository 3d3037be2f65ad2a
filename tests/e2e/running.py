"""What end-to-end tests start and say: the command, job files, and the ways to follow a job."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedelta.admin import AdminClient, JobInfo, JobState, Outcome, Participation, Phase, StateChanged
from fedelta.demo.processes import Federation, Process

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent)}
"""With it processes find `learners`."""

SITES = {"a": (10, 1.0), "b": (30, -2.0), "c": (5, 0.25)}
"""Examples and target of each client."""

STEPS = "learners:Steps"


def fedelta(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fedelta", *map(str, words)],
        env={**os.environ, **ENVIRONMENT},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a job file; values are strings and numbers, which JSON writes as TOML does."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def job(
    *,
    sites: Mapping[str, tuple[int, float]] = SITES,
    acts: Mapping[str, str] | None = None,
    learner: str = "",
    init: str = "first-client",
    arguments: Mapping[str, Any] | None = None,
    noise: float = 0.0,
    **rounds: Any,
) -> str:
    """A job for `learners:Steps`: 3 rounds of all sites unless `rounds` says otherwise."""
    return toml(
        {
            "job": {"name": "steps", "seed": 7, "learner": learner},
            "model": {"init": init},
            "model.arguments": arguments or {},
            "rounds": {"max": 3, "clients": len(sites), **rounds},
            "train": {"noise": noise},
            **{f"train.sites.{name}": {"examples": count, "target": goal} for name, (count, goal) in sites.items()},
            "train.acts": acts or {},
        }
    )


def start(running: Federation, sites: Sequence[str] = tuple(SITES), learner: str = STEPS) -> None:
    """Starts the coordinator, if need be, and a client for each site, each with its own data directory."""
    if running.coordinator is None:
        running.start_coordinator()
    clients = [start_client(running, name, learner) for name in sites]
    for client in clients:
        client.wait_for("connected")


def start_client(running: Federation, name: str, learner: str = STEPS, *options: str) -> Process:
    data = data_of(running, name)
    data.mkdir(parents=True, exist_ok=True)
    return running.start_client(name, learner, *options, data=data)


def data_of(running: Federation, name: str) -> Path:
    return running.folder / "data" / name


def let_go(running: Federation, name: str) -> None:
    """Ends the learner's `hold`."""
    (data_of(running, name) / "go").touch()


def finish(admin: AdminClient, job_id: str) -> JobInfo:
    """Waits until the job has ended or given up."""
    for event in admin.watch(job_id):
        if isinstance(event.what, StateChanged) and event.what.state is JobState.PAUSED:
            break
    return admin.get(job_id)


def run(running: Federation, text: str) -> JobInfo:
    """Runs a job to its end."""
    with AdminClient(running.server) as admin:
        return finish(admin, admin.submit_text(text, directory=running.folder))


def digests(info: JobInfo) -> list[str]:
    """Of all versions."""
    return [info.initial_digest, *(closed.digest for closed in info.rounds)]


def trained(parts: Sequence[Participation]) -> dict[str, tuple[Outcome, str]]:
    """Outcome and reason of each client's training."""
    return {part.client: (part.outcome, part.reason) for part in parts if part.phase is Phase.TRAIN}

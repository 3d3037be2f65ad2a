"""The demo: shards, processes, a job, live progress, and what came of it."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fedelta.admin import (
    AdminClient,
    EvaluationClosed,
    EvaluationInfo,
    JobInfo,
    JobState,
    RoundClosed,
    RoundFailed,
    RoundInfo,
    StateChanged,
)
from fedelta.demo.curve import draw_curve
from fedelta.demo.processes import Federation, federation
from fedelta.demo.shards import pooled_accuracy, write_shards
from fedelta.errors import FedeltaError

LEARNER = "fedelta.demo.digits:Digits"
_START_SECONDS = 120.0


class DemoError(FedeltaError):
    """The demo's job did not finish."""

    code = "demo"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What `fedelta demo` was asked for."""

    clients: int
    alpha: float | None
    """Dirichlet concentration of the label split. None: IID."""
    rounds: int
    epochs: int
    seed: int
    folder: Path
    """Everything is written below it. It exists."""
    json: Path | None
    """Where the rounds go as JSON, if anywhere."""

    @property
    def train(self) -> dict[str, Any]:
        """The job's [train] table."""
        return {"epochs": self.epochs, "lr": 0.1, "batch_size": 16}

    @property
    def split(self) -> str:
        """How the data is dealt out, in words."""
        return "IID" if self.alpha is None else f"Dirichlet({self.alpha:g})"


def run(demo: Demo) -> None:
    """Runs the demo. Raises `FedeltaError` where it does not come to its end."""
    console = Console(highlight=False, soft_wrap=True)
    shards = write_shards(demo.folder / "shards", demo.clients, alpha=demo.alpha, seed=demo.seed)
    console.print(f"{demo.clients} clients, {demo.split} split of 1,797 handwritten digits, in {demo.folder}")
    with federation(demo.folder) as running:
        _start(running, shards, console)
        with AdminClient(running.server) as admin:
            job = _train(admin, demo, console)
            model = demo.folder / "model.safetensors"
            admin.download_model(job.id, model)
    pooled = pooled_accuracy(demo.folder / "shards" / "pooled", demo.train, seed=demo.seed)
    _report(demo, job, pooled, model, console)


def _start(running: Federation, shards: list[Path], console: Console) -> None:
    began = time.perf_counter()
    running.start_coordinator()
    console.print(f"coordinator (process {_pid(running)}) serves on {running.server}")
    for shard in shards:
        running.start_client(shard.name, LEARNER, "--threads", "1", data=shard)
    for client in running.clients.values():
        client.wait_for("connected", _START_SECONDS)
    console.print(f"{len(shards)} client processes connected after {time.perf_counter() - began:.1f} s\n")


def _pid(running: Federation) -> int:
    return running.coordinator.pid if running.coordinator else 0


def _train(admin: AdminClient, demo: Demo, console: Console) -> JobInfo:
    job_id = admin.submit_text(_job_file(demo), source="demo.toml")
    console.print("round  clients  train loss  accuracy  test loss   up MB  down MB  seconds")
    closed: dict[int, RoundInfo] = {}
    for event in admin.watch(job_id):
        if isinstance(event.what, RoundClosed):
            closed[event.what.round.number] = event.what.round
        elif isinstance(event.what, EvaluationClosed):
            # The next round trains meanwhile: a line is a little behind what happens.
            console.print(_line(closed[event.what.evaluation.version], event.what.evaluation))
        elif isinstance(event.what, RoundFailed):
            console.print(f"{event.what.round:5}  failed: {event.what.reason}")
        elif isinstance(event.what, StateChanged) and event.what.state is JobState.PAUSED:
            raise DemoError(f"the job paused: {event.what.reason}; logs are in {demo.folder}")
    job = admin.get(job_id)
    if job.state is not JobState.FINISHED:
        raise DemoError(f"the job is {job.state}: {job.reason}; logs are in {demo.folder}")
    return job


def _job_file(demo: Demo) -> str:
    train = "\n".join(f"{key} = {value}" for key, value in demo.train.items())
    return (
        f'[job]\nname = "digits"\nseed = {demo.seed}\n\n[model]\ninit = "first-client"\n\n'
        f"[rounds]\nmax = {demo.rounds}\nclients = {demo.clients}\n\n[train]\n{train}\n"
    )


def _line(closed: RoundInfo, evaluation: EvaluationInfo) -> str:
    took_part = sum(part.outcome == "accepted" and part.phase == "train" for part in closed.clients)
    return (
        f"{closed.number:5}  {took_part:7}  {_number(closed.train_metrics, 'loss'):>10}  "
        f"{_number(evaluation.metrics, 'accuracy'):>8}  {_number(evaluation.metrics, 'loss'):>9}  "
        f"{closed.bytes_up / 1e6:6.2f}  {closed.bytes_down / 1e6:7.2f}  {closed.seconds:7.2f}"
    )


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "-"


def _report(demo: Demo, job: JobInfo, pooled: float, model: Path, console: Console) -> None:
    accuracies = [closed.metrics.get("accuracy", float("nan")) for closed in job.rounds]
    curve = demo.folder / "learning-curve.png"
    title = f"Digits, {demo.clients} clients, {demo.split}"
    draw_curve(curve, title, accuracies, [closed.metrics.get("loss", float("nan")) for closed in job.rounds], pooled)
    found = {
        "test accuracy, federated": f"{accuracies[-1]:.4f}",
        "test accuracy, pooled data": f"{pooled:.4f}",
        "learning curve": str(curve),
        "model": str(model),
    }
    if demo.json is not None:
        demo.json.write_text(json.dumps(_summary(demo, job, pooled), indent=2) + "\n", encoding="utf-8")
        found["rounds"] = str(demo.json)
    console.print()
    for what, value in found.items():
        console.print(f"{what:26}  {value}", markup=False)


def _summary(demo: Demo, job: JobInfo, pooled: float) -> dict[str, Any]:
    return {
        "job": job.id,
        "clients": demo.clients,
        "alpha": demo.alpha,
        "seed": demo.seed,
        "pooled_accuracy": pooled,
        "rounds": [{**asdict(closed), "metrics": dict(closed.metrics)} for closed in job.rounds],
    }

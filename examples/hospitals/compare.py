"""What each hospital could do alone, beside the federated model and one trained on all patients in one place.

python compare.py ./data --model model.safetensors --statistics stats.json
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.data import DataLoader

from fedelta import Task, load_state
from fedelta.execution import seed_everything
from fedelta.torch import evaluate_classifier
from hospital import Diagnosis, Hospital

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--model", required=True, type=FILE, help="What `fedelta model export` wrote.")
@click.option("--statistics", required=True, type=FILE, help="What `fedelta stats submit --out` wrote.")
@click.option("--job", default=Path("hospitals.toml"), show_default=True, type=FILE, help="Rounds and [train] for all.")
@click.option("--seed", default=7, show_default=True, help="Of the training that is done here.")
def main(folder: Path, model: Path, statistics: Path, job: Path, seed: int) -> None:
    """Print accuracies on the held-out patients in FOLDER/test.

    All train for as many epochs, and standardize alike: by what the hospitals' statistics say together.
    """
    torch.set_num_threads(1)
    plan = tomllib.loads(job.read_text(encoding="utf-8"))
    config = {**plan["train"], "statistics": json.loads(statistics.read_text(encoding="utf-8"))}
    rounds, test = plan["rounds"]["max"], folder / "test" / "test.csv"
    found = {f"{path.stem} alone": trained(path, config, rounds, seed) for path in sorted(folder.glob("*.csv"))}
    found["federated"] = exported(folder, model)
    found["pooled"] = trained(folder, config, rounds, seed)
    click.echo("             accuracy on the held-out patients")
    for name, each in found.items():
        click.echo(f"{name:12} {accuracy(each, test):.3f}")


def trained(data: Path, config: Mapping[str, Any], rounds: int, seed: int) -> Diagnosis:
    """A model trained on a CSV, or on all of a folder's, by the same learner."""
    learner = Hospital()
    learner.data = data
    learner.setup()
    seed_everything(seed)
    model = learner.model()
    for number in range(rounds):
        learner.train(model, Task(seed=seed + number, config=config))
    return model


def exported(folder: Path, file: Path) -> Diagnosis:
    """The federated model."""
    learner = Hospital()
    learner.read(folder)
    model = learner.model()
    load_state(model, file)
    return model


def accuracy(model: Diagnosis, test: Path) -> float:
    """The share of right diagnoses."""
    patients = Hospital().read(test)
    return evaluate_classifier(model, DataLoader(patients, batch_size=256), Task()).metrics["accuracy"]


if __name__ == "__main__":
    main()

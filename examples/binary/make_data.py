"""Generates a binary classification problem and gives each site samples of its own.

python make_data.py ./data --sites 3
"""

from pathlib import Path

import click
import numpy as np

INPUTS = 100


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sites", default=3, show_default=True, help="How many.")
@click.option("--samples", default=100, show_default=True, help="Of each site.")
@click.option("--seed", default=7, show_default=True, help="Of everything.")
def main(folder: Path, sites: int, samples: int, seed: int) -> None:
    """Write site-1.npz, site-2.npz and so on into FOLDER."""
    rng = np.random.default_rng(seed)
    # Ten of the inputs tell the classes apart, the others are noise.
    direction = np.zeros(INPUTS)
    direction[rng.choice(INPUTS, 10, replace=False)] = rng.choice([-1.0, 1.0], 10)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, sites + 1):
        x = rng.standard_normal((samples, INPUTS))
        y = x @ direction > 0
        path = folder / f"site-{number}.npz"
        np.savez(path, x=x.astype(np.float32), y=y.astype(np.float32))
        click.echo(f"{path}: {samples} samples, {np.count_nonzero(y)} of them positive")


if __name__ == "__main__":
    main()

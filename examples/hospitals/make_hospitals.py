"""Deals scikit-learn's breast-cancer data out to three hospitals that see different patients.

python make_hospitals.py ./data
"""

import csv
from pathlib import Path

import click
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

HOSPITALS = ("north", "south", "west")
FEWEST = 10
"""Rows that each hospital has at least: shares are drawn again until it does."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--alpha", default=0.3, show_default=True, help="Of the Dirichlet shares: the smaller, the more uneven.")
@click.option("--seed", default=7, show_default=True, help="Of the split.")
def main(folder: Path, alpha: float, seed: int) -> None:
    """Write north.csv, south.csv and west.csv into FOLDER; patients that no hospital has go to FOLDER/test/test.csv."""
    data = load_breast_cancer()
    diagnosis = np.asarray(data.target_names)[data.target]
    train, test = train_test_split(np.arange(len(diagnosis)), test_size=0.2, stratify=diagnosis, random_state=seed)
    dealt = deal(diagnosis, train, alpha, seed)
    for name, rows in zip((*HOSPITALS, "test/test"), (*dealt, test), strict=True):
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow([*data.feature_names, "diagnosis"])
            table.writerows([*data.data[row].tolist(), diagnosis[row]] for row in rows)
        malignant = np.count_nonzero(diagnosis[rows] == "malignant")
        click.echo(f"{path}: {len(rows)} patients, {malignant} of them malignant")


def deal(diagnosis: np.ndarray, rows: np.ndarray, alpha: float, seed: int) -> list[np.ndarray]:
    """Each diagnosis' rows go to the hospitals in shares from Dirichlet(alpha): label skew (Hsu et al. 2019)."""
    rng = np.random.default_rng(seed)
    while True:
        dealt = [[] for _ in HOSPITALS]
        for label in np.unique(diagnosis):
            mine = rng.permutation(rows[diagnosis[rows] == label])
            shares = rng.dirichlet(np.full(len(HOSPITALS), alpha))
            cuts = np.round(np.cumsum(shares)[:-1] * len(mine)).astype(int)
            for part, piece in zip(dealt, np.split(mine, cuts), strict=True):
                part.append(piece)
        found = [rng.permutation(np.concatenate(parts)) for parts in dealt]
        if min(map(len, found)) >= FEWEST:
            return found


if __name__ == "__main__":
    main()

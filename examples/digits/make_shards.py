"""Deals scikit-learn's handwritten digits out to folders, one for each client.

python make_shards.py ./shards --clients 4 --alpha 0.5
"""

from pathlib import Path

import click

from fedelta.demo.shards import write_shards


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--clients", default=4, show_default=True, help="How many shards.")
@click.option("--alpha", type=float, help="Label skew: shares from Dirichlet(ALPHA). Absent: IID.")
@click.option("--seed", default=7, show_default=True, help="Of the split.")
def main(folder: Path, clients: int, alpha: float | None, seed: int) -> None:
    """Deal the digits out below FOLDER."""
    for shard in write_shards(folder, clients, alpha=alpha, seed=seed):
        click.echo(shard)


if __name__ == "__main__":
    main()

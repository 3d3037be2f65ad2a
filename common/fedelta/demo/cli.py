"""`fedelta demo`."""

import shutil
from pathlib import Path

import click

from fedelta.cli._options import insecure_option
from fedelta.errors import ConfigError

_MARK = ".fedelta-demo"


@click.command()
@insecure_option
@click.option("--clients", default=4, show_default=True, type=click.IntRange(1, 300), help="Client processes.")
@click.option(
    "--alpha",
    default=None,
    type=click.FloatRange(0, min_open=True),
    help="Label skew: shares from Dirichlet(ALPHA), the smaller the more uneven. Absent: IID.",
)
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1), help="Rounds of training.")
@click.option("--epochs", default=5, show_default=True, type=click.IntRange(1), help="Local epochs in a round.")
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0, 1 << 31), help="Of split and job.")
@click.option(
    "--out",
    default=Path("demo-out"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for shards, logs and results; an earlier demo's is replaced.",
)
@click.option(
    "--json", "json_path", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Write the rounds here."
)
def demo(
    clients: int, alpha: float | None, rounds: int, epochs: int, seed: int, out: Path, json_path: Path | None
) -> None:
    """Run a whole federation on this machine: a coordinator and clients as real processes, on handwritten digits.

    \b
    Examples:
      fedelta demo
      fedelta demo --clients 10 --alpha 0.1 --rounds 30 --json out.json
    """
    # Before torch and scikit-learn are imported, which takes seconds.
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise ConfigError(f"--json {json_path}: there is no directory {json_path.absolute().parent}")
    _prepare(out)
    click.echo("loading torch and scikit-learn ...")
    from fedelta.demo.run import Demo, run

    run(
        Demo(
            clients=clients, alpha=alpha, rounds=rounds, epochs=epochs, seed=seed, folder=out.resolve(), json=json_path
        )
    )


def _prepare(folder: Path) -> None:
    """Makes the folder, or empties an earlier demo's. Nobody else's is touched."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise ConfigError(f"--out {folder} holds something else; name another directory, or empty it")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise ConfigError(f"--out {folder}: {error.strerror}") from None

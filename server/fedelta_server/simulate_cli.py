"""`fedelta simulate`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedelta.cli._exit import ExitCode
from fedelta.cli._options import plain_option

if TYPE_CHECKING:
    from fedelta_server.simulation import Delays, History, Options

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("job", type=_FILE, metavar="JOB")
@click.option("--learner", required=True, metavar="MODULE:CLASS", help="What all clients run.")
@click.option(
    "--data",
    metavar="DIR|TEMPLATE|MODULE:FUNCTION",
    help="Each client's data: a directory with an entry for each, a path with {index} or {client} in it, or a function "
    "that is called as f(index, clients, seed).",
)
@click.option("--clients", type=click.IntRange(1), metavar="N", help="How many.  [default: as many as the data has]")
@click.option(
    "--evaluator-data",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Held-out data, on which one more client evaluates every version.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that do the clients' work."
)
@click.option(
    "--delays",
    "delay_words",
    metavar="KIND:SECONDS",
    default="constant:0",
    show_default=True,
    help="How long training takes on the simulation's clock: constant:SECONDS, or half-normal:SCALE.",
)
@click.option(
    "--slow",
    multiple=True,
    metavar="CLIENT=FACTOR",
    help="This client takes so many times as long; may be given several times.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a value of the job file; may be given several times.",
)
@click.option("--device", default="cpu", show_default=True, help="Where learners compute.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of torch, in each process.")
@click.option("--json", "json_path", type=_FILE, metavar="FILE", help="Write the history here.")
@click.option("--out", type=_FILE, help="Write the newest model version here.")
@click.option("--force", is_flag=True, help="Overwrite that file.")
@plain_option
def simulate(
    job: Path, learner: str, delay_words: str, slow: tuple[str, ...], json_path: Path | None, plain: bool, **given: Any
) -> None:
    """Run the job file JOB with many clients on this machine, without a network.

    It is the coordinator's own engine and arithmetic and the clients' own training: a real federation with the same
    job, names and data makes the same model. Time is the simulation's own; the first number of each line is seconds
    on that clock.

    \b
    Examples:
      fedelta simulate digits.toml --learner digits:Digits --data shards
      fedelta simulate digits.toml --learner digits:Digits --data shards/client-{index} --clients 100 --workers 2
      fedelta simulate digits.toml --learner digits:Digits --data shards --delays half-normal:1 --json out.json

    \b
    The exit code says how the job ended:
      0 finished, 1 stopped or failed, 3 paused.
    Ctrl-C or SIGTERM ends it; what was asked for with --json and --out is written all the same.
    """
    # Before numpy is imported, which reads it then: as trainer processes have it.
    os.environ["OPENBLAS_NUM_THREADS"] = str(given["threads"])
    from fedelta_server.simulation import Options

    _check_folder(json_path, "--json")
    _check_folder(given["out"], "--out")
    # What is not named here are the fields of `Options`.
    options = Options(delays=_delays(delay_words, slow), environment=os.environ, **given)
    click.get_current_context().exit(_run(job, learner, options, json_path, plain=plain))


def _delays(words: str, slow: tuple[str, ...]) -> "Delays":
    from fedelta_server.simulation import Scaled, parse_delays

    delays, factors = parse_delays(words), dict(map(_factor, slow))
    return Scaled(delays, factors) if factors else delays


def _run(job: Path, learner: str, options: "Options", json_path: Path | None, *, plain: bool) -> int:
    import dataclasses
    import time

    from fedelta_server.simulation import SimulationInterrupted, simulate
    from fedelta_server.simulation._screen import Screen, ending

    began = time.monotonic()
    try:
        with _sigterm_interrupts() as terminated, Screen(plain=plain) as screen:
            history = simulate(job, learner, options=dataclasses.replace(options, watch=screen.tell))
    except SimulationInterrupted as interrupted:
        _write(interrupted.history, json_path)
        click.echo(f"interrupted; {ending(interrupted.history, time.monotonic() - began)}")
        if terminated:
            raise SystemExit(ExitCode.TERMINATED) from None
        raise
    _write(history, json_path)
    click.echo(ending(history, time.monotonic() - began))
    return _exit_code(history)


@contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """Lets SIGTERM end a simulation as Ctrl-C does. What it gives is no longer empty when that has happened."""
    signals: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(history: "History") -> int:
    from fedelta_server.engine.words import JobState

    return {JobState.FINISHED: ExitCode.DONE, JobState.PAUSED: ExitCode.PAUSED}.get(history.state, ExitCode.FAILED)


def _write(history: "History", path: Path | None) -> None:
    import msgspec

    from fedelta._files import replaced

    if path is not None:
        with replaced(path, overwrite=True) as part:
            plain = msgspec.json.encode(history, enc_hook=str)
            part.write_bytes(msgspec.json.format(plain, indent=2) + b"\n")


def _check_folder(path: Path | None, option: str) -> None:
    """Before anything is begun: what takes an hour shall not be lost for want of a directory."""
    from fedelta.errors import ConfigError

    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no directory {path.absolute().parent}")


def _factor(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not name or not 0 <= factor < float("inf"):
        raise click.BadParameter(f"{text!r}: say CLIENT=FACTOR, for example client-3=10", param_hint="--slow")
    return name, factor

"""`fedelta model`: make, export and look at model files."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedelta._words import short, size
from fedelta.cli import _complete
from fedelta.cli._complete import job_argument
from fedelta.cli._options import connect, insecure_option, json_option, server_options
from fedelta.cli._output import print_json, print_table
from fedelta.cli._version_name import VersionName
from fedelta.errors import ConfigError, FedeltaError, LearnerError

if TYPE_CHECKING:
    from fedelta.admin import JobInfo
    from fedelta.config import ModelConfig, Version

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def model() -> None:
    """Make, export and look at model files (safetensors).

    \b
      fedelta model init --learner digits:Digits --seed 7 --out start.safetensors
      fedelta model export digits-1 --out model.safetensors
      fedelta model show model.safetensors
    """


@model.command()
@click.option("--learner", required=True, metavar="MODULE:CLASS", help="The learner whose model it is.")
@click.option(
    "--job",
    "job_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take seed, [model.arguments], model.tensors and model.personal from a job file.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the learner's model(), such as hidden=64; may be given several times.",
)
@click.option(
    "--seed", type=click.IntRange(0, (1 << 63) - 1), metavar="N", help="Seed of the values.  [default: the job's, or 0]"
)
@click.option("--trainable", is_flag=True, help='Only what training changes, as model.tensors = "trainable" has it.')
@click.option(
    "--personal",
    multiple=True,
    metavar="PATTERN",
    help="Without tensors of names such as '*bn*', as model.personal has it; may be given several times.",
)
@click.option("--data", type=click.Path(path_type=Path), help="For a learner whose model depends on its data.")
@click.option("--out", required=True, type=FILE, help="The file to write.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@insecure_option
def init(
    learner: str,
    job_file: Path | None,
    assignments: tuple[str, ...],
    seed: int | None,
    trainable: bool,
    personal: tuple[str, ...],
    data: Path | None,
    out: Path,
    force: bool,
) -> None:
    """Make an initial model, the one that `model.init` of a job file names.

    The same learner, seed and arguments give the same file. The learner's data is read only where --data is given.

    \b
    Examples:
      fedelta model init --learner digits:Digits --seed 7 --set hidden=64 --out start.safetensors
      fedelta model init --learner digits:Digits --job digits.toml --out start.safetensors
      fedelta model init --learner digits:Digits --personal '*bn*' --out start.safetensors
    """
    from fedelta._files import replaced
    from fedelta.execution import initialize, load_learner
    from fedelta.learner import Task
    from fedelta.local import ClientPlan

    job_seed, model = _of_job(job_file)
    # By way of JSON, as they come to clients: the same arguments give the same model.
    arguments = json.loads(json.dumps({**model.arguments, **_assigned(assignments)}, default=str))
    task = Task(seed=job_seed if seed is None else seed)
    plan = ClientPlan(
        tensors="trainable" if trainable else model.tensors, personal=(*model.personal, *personal), seed=task.seed
    )
    found = load_learner(learner)
    with replaced(out, overwrite=force) as part, _learner_errors(learner, data):
        if data is not None:
            found.data = data
            found.setup()
        written = initialize(found, task, part, arguments=arguments, plan=plan)
    click.echo(f"{written.digest.hex()}  {size(written.length)}  {out}")


def _of_job(file: Path | None) -> "tuple[int, ModelConfig]":
    """Seed and [model] of a job, which variables may change as when it is submitted."""
    from fedelta.cli._submission import submission
    from fedelta.config import FIRST_CLIENT, ModelConfig

    if file is None:
        return 0, ModelConfig(init=FIRST_CLIENT)
    spec = submission(file, (), os.environ).spec
    return spec.job.seed, spec.model


def _assigned(assignments: tuple[str, ...]) -> dict[str, Any]:
    """What `--set NAME=VALUE` gives. Raises `ConfigError`."""
    from fedelta.config._text import read

    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name.isidentifier():
            raise ConfigError(f"--set {assignment}: say --set NAME=VALUE, for example --set hidden=64")
        try:
            found[name] = read(text, Any)
        except ValueError as error:
            raise ConfigError(f"--set {name}: {error}") from None
    return found


@contextlib.contextmanager
def _learner_errors(learner: str, data: Path | None) -> Iterator[None]:
    """What the learner's own code raises, as a `LearnerError`."""
    try:
        yield
    except FedeltaError:
        raise
    except Exception as error:
        hint = "" if data else "; if its model depends on its data, say --data"
        raise LearnerError(f"{learner} raised {type(error).__name__}: {error}{hint}") from error


@model.command()
@job_argument
@click.option(
    "--version",
    type=VersionName(),
    default="latest",
    show_default=True,
    help="Which version: a number (0: the initial one), or the best by the job's evaluations.",
)
@click.option("--out", required=True, type=FILE, help="The file to write.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@server_options
def export(job_id: str, version: "Version", out: Path, force: bool, server: str) -> None:
    """Write a job's model to a file that any tool opens.

    The file appears when it is complete and its digest is right.
    """
    with connect(server) as admin:
        found = admin.download_model(job_id, out, version=version, overwrite=force)
    click.echo(f"version {found.version}  {found.digest}  {size(found.length)}  {out}")


@model.command()
@click.argument("what", metavar="FILE|ID", shell_complete=_complete.jobs_or_models)
@json_option
@server_options
def show(what: str, server: str, as_json: bool) -> None:
    """Show the tensors of a model file, or the versions of a job's model and which of them is best."""
    if Path(what).is_file():
        _show_file(Path(what), as_json)
        return
    with connect(server) as admin:
        info = admin.get(what)
    _show_versions(info, as_json)


def _show_versions(info: "JobInfo", as_json: bool) -> None:
    from fedelta.cli._show import results

    if as_json:
        print_json([_plain(info, number, digest) for number, digest in _digests(info)])
        return
    pruned, best = set(info.pruned_versions), info.best_version
    rows = [
        (str(each), short(digest), results(info, each), "best" if each == best else "pruned" * (each in pruned))
        for each, digest in _digests(info)
    ]
    print_table(("version", "digest", "metrics", ""), rows, f"{info.id} has no model yet")


def _plain(info: "JobInfo", number: int, digest: str) -> dict[str, Any]:
    """What `--json` shows of a version."""
    found = info.evaluation(number)
    return {
        "version": number,
        "digest": digest,
        "metrics": found.metrics if found else {},
        "central": found.central if found else {},
        "best": number == info.best_version,
        "pruned": number in info.pruned_versions,
    }


def _digests(info: "JobInfo") -> Iterator[tuple[int, str]]:
    """The versions of a job's model, each with its digest."""
    if info.initial_digest:
        yield 0, info.initial_digest
    for closed in info.rounds:
        yield closed.number, closed.digest


def _show_file(path: Path, as_json: bool) -> None:
    from blake3 import blake3

    from fedelta.tensors import read_layout

    with path.open("rb") as file:
        layout = read_layout(file.fileno())
    digest = blake3().update_mmap(path).hexdigest()
    tensors = layout.schema.tensors
    if as_json:
        listed = [{"name": spec.name, "dtype": spec.dtype.label, "shape": spec.shape} for spec in tensors]
        print_json({"digest": digest, "length": path.stat().st_size, "metadata": layout.metadata, "tensors": listed})
        return
    rows = [(spec.name, spec.dtype.label, str(list(spec.shape)), size(spec.nbytes)) for spec in tensors]
    print_table(("tensor", "type", "shape", "size"), rows, "no tensors")
    click.echo(f"{sum(spec.count for spec in tensors)} values, {size(path.stat().st_size)}, BLAKE3 {digest}")
